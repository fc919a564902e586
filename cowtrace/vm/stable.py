"""The same files in, the same bytes out: times settled, an initrd and an ext4 image made of a tree.

What could differ from one build to the next is fixed here: times, the order of names, UUIDs, the
hash seed of directories. `cowtrace/vm/guest/customize` removes what differs inside the files.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from cowtrace.vm import programs

_UUID = "636f7774-7261-4365-8000-000000000000"  # `cowtrace` in ASCII, as a version 4 UUID
_OPTIONS = (
    # No journal: every boot starts from the same image. The others: unknown to 5.10.
    *("-t", "ext4", "-m", "0", "-O", "^has_journal,^orphan_file,^metadata_csum_seed"),
    *("-L", "cowtrace", "-U", _UUID, "-E", f"hash_seed={_UUID},root_owner=0:0"),
)


def newest(tree: Path, before: float) -> int:
    """The newest time of change in a tree that is older than `before`, in whole seconds.

    Of a tree of installed packages, with the installation's start: the time of the newest file
    that a package brought, which the packages' versions decide. `before` where nothing is older.
    """
    # A file's time comes from a clock that stands still between two of the kernel's ticks.
    latest = before - 1
    times = (path.lstat().st_mtime for path in _paths(tree))
    return int(max((time for time in times if time < latest), default=before))


def settle(tree: Path, epoch: int, *, all_of_it: bool = False) -> None:
    """Set what was changed after `epoch` to it; with all_of_it, everything."""
    for path in _paths(tree):
        if all_of_it or path.lstat().st_mtime > epoch:
            os.utime(path, (epoch, epoch), follow_symlinks=False)


def cpio(tree: Path, archive: Path, epoch: int, run: Callable[..., None], *, what: str) -> None:
    """Pack a tree as an initrd, every file of it at `epoch` and of root."""
    settle(tree, epoch, all_of_it=True)
    pack = f"{programs.find('cpio')} -o -H newc -R 0:0 --reproducible --quiet"
    script = f'find . | LC_ALL=C sort | {pack} >"$1"'
    run(["sh", "-c", script, "sh", str(archive)], cwd=tree, what=what)


def ext4(
    tree: Path, image: Path, size_mib: int, epoch: int, run: Callable[..., None], *, what: str
) -> None:
    """Make a file system image of a tree: its times of change kept, every other time `epoch`."""
    clock = {"E2FSPROGS_FAKE_TIME": str(epoch), "SOURCE_DATE_EPOCH": str(epoch)}
    made = [programs.find("mke2fs"), "-q", *_OPTIONS, "-d", str(tree), str(image), f"{size_mib}M"]
    run(made, env=clock, what=what)
    # mke2fs keeps each file's time of access, and of its inode's last change, which nobody can set.
    commands = image.with_name(f"{image.name}.commands")
    commands.write_text(
        "".join(
            f"set_inode_field <{inode}> {field} @{epoch}\n"
            for inode in range(1, _inodes_used(image) + 1)
            for field in ("atime", "ctime", "crtime")
        )
    )
    run([programs.find("debugfs"), "-w", "-f", str(commands), str(image)], env=clock,
        what=what, quiet=True)  # fmt: skip
    commands.unlink()


def _inodes_used(image: Path) -> int:
    """How many inodes of a new ext4 image are in use: the first so many.

    struct ext4_super_block: s_inodes_count and s_free_inodes_count.
    """
    with image.open("rb") as file:
        file.seek(1024)
        total, _, _, _, free = struct.unpack("<5I", file.read(20))
    return int(total - free)


def _paths(tree: Path) -> Iterator[Path]:
    """The tree's folder and all below it, each once; links are not followed."""
    yield tree
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            yield Path(folder, name)
