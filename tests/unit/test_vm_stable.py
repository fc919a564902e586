"""The same files give the same bytes, as an initrd and as an ext4 image, whenever they are made."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cowtrace.vm import host_programs, stable

EPOCH = 1_700_000_000
FILES = {
    "bin/tool": b"\x7fELF" * 5000,
    "etc/empty": b"",
    "etc/motd": b"hello\n",
    **{f"usr/share/many/file-{number}": b"%d" % number for number in range(200)},
}


@pytest.fixture(autouse=True)
def _tools() -> None:
    for name in ("cpio", "mke2fs", "debugfs"):
        if not shutil.which(name, path=host_programs._PATH):
            pytest.skip(f"{name} is not installed: apt-get install {host_programs.PACKAGES[name]}")


def make(tree: Path, order: Callable[[list[str]], list[str]]) -> Path:
    """The same files, written in this order; links of both kinds among them."""
    for name in order(list(FILES)):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FILES[name])
    (tree / "bin/tool").chmod(0o755)
    (tree / "etc/link").symlink_to("motd")
    (tree / "etc/other-name").hardlink_to(tree / "etc/motd")
    os.utime(tree / "etc/motd", (EPOCH - 7, EPOCH - 5))
    return tree


def two(tmp_path: Path) -> tuple[Path, Path]:
    """Made in one second and the next, the second backwards, and read since."""
    first = make(tmp_path / "first", list)
    made = time.time()
    while int(time.time()) == int(made):
        time.sleep(0.01)
    second = make(tmp_path / "second", lambda names: names[::-1])
    assert [file.read_bytes() for file in second.rglob("*") if file.is_file()]
    return first, second


def run(
    argv: Sequence[str],
    *,
    what: str,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    quiet: bool = False,
) -> None:
    path = {"PATH": host_programs._PATH, **(env or {})}
    subprocess.run(argv, cwd=cwd, env=path, check=True, capture_output=True)


def image(tree: Path) -> bytes:
    stable.settle(tree, EPOCH)
    file = tree.with_suffix(".ext4")
    stable.ext4(tree, file, 8, EPOCH, run, what="it")
    return file.read_bytes()


def test_the_same_files_give_the_same_initrd(tmp_path: Path) -> None:
    archives = []
    for tree in two(tmp_path):
        stable.cpio(tree, tree.with_suffix(".cpio"), EPOCH, run, what="it")
        archives.append(tree.with_suffix(".cpio").read_bytes())
    assert archives[0] == archives[1]
    assert b"etc/motd" in archives[0]


def test_the_same_files_give_the_same_file_system(tmp_path: Path) -> None:
    first, second = map(image, two(tmp_path))
    assert first == second
    assert b"hello\n" in first


def test_another_byte_or_mode_gives_another_file_system(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    before = image(first)
    (second / "etc/motd").write_bytes(b"hellO\n")
    assert image(second) != before
    (first / "bin/tool").chmod(0o700)
    assert image(first) != before


def test_a_file_system_is_whole_and_keeps_what_packages_set(tmp_path: Path) -> None:
    tree = make(tmp_path / "tree", list)
    image(tree)
    file = str(tree.with_suffix(".ext4"))

    def ask(*argv: str) -> list[str]:
        environment = {"PATH": host_programs._PATH, "TZ": "UTC"}
        ended = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True)
        return ended.stdout.splitlines()

    inodes = {path.lstat().st_ino for path in tree.rglob("*")}
    of_ext4 = 11  # ten, and lost+found
    assert f"cowtrace: {len(inodes) + of_ext4}/" in ask("e2fsck", "-fn", file)[-1]
    lines = ask("debugfs", "-R", "stat /etc/motd", file)
    assert "Links: 2 " in "".join(f"{line} " for line in lines)
    times = {line.split(":")[0].strip(): line[-20:] for line in lines if " -- " in line}
    assert times.pop("mtime") == "Nov 14 22:13:15 2023"  # the file's own, older
    assert set(times.values()) == {"Nov 14 22:13:20 2023"}


def test_the_newest_time_is_that_of_what_a_package_brought(tmp_path: Path) -> None:
    tree = make(tmp_path / "tree", list)
    for path in tree.rglob("*"):
        os.utime(path, (1000, 1000), follow_symlinks=False)
    begun = time.time()
    (tree / "etc/motd").write_bytes(b"by a maintainer script")
    os.utime(tree / "etc/empty", (2000.9, 2000.9))
    assert stable.newest(tree, begun) == 2000


def test_only_what_is_newer_is_settled(tmp_path: Path) -> None:
    tree = make(tmp_path / "tree", list)
    stable.settle(tree, EPOCH)
    assert (tree / "etc/motd").stat().st_mtime == EPOCH - 5
    assert (tree / "etc/link").lstat().st_mtime == EPOCH
    assert tree.stat().st_mtime == EPOCH
    stable.settle(tree, EPOCH, all_of_it=True)
    assert (tree / "etc/motd").stat().st_mtime == EPOCH
