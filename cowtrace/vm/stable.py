"""Make reproducible images: the same files in, the same initrd or ext4 image out.

This module fixes what could differ between builds: times, the order of names, UUIDs, the hash
seed of directories. `cowtrace/vm/guest/customize` removes what differs inside the files.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

from cowtrace.vm import host_programs

_UUID = "636f7774-7261-4365-8000-000000000000"  # `cowtrace` in ASCII, as a version 4 UUID
_OPTIONS = (
    # No journal: every boot starts from the same image. 5.10 does not know the other two.
    *("-t", "ext4", "-m", "0", "-O", "^has_journal,^orphan_file,^metadata_csum_seed"),
    *("-L", "cowtrace", "-U", _UUID, "-E", f"hash_seed={_UUID},root_owner=0:0"),
)


def newest(tree: Path, before: float) -> int:
    """The newest modification time in a tree that is older than `before`, in whole seconds.

    With `before` the start of an installation, this is the time of the newest packaged file, which
    depends on the packages' versions alone. Returns `before` if nothing is older.
    """
    # File times come from a clock that advances only at the kernel's ticks.
    latest = before - 1
    times = (path.lstat().st_mtime for path in (tree, *tree.rglob("*")))
    return int(max((time for time in times if time < latest), default=before))


def settle(tree: Path, epoch: int, *, all_of_it: bool = False) -> None:
    """Set modification times after `epoch` to `epoch`; with all_of_it, every one."""
    for path in (tree, *tree.rglob("*")):
        if all_of_it or path.lstat().st_mtime > epoch:
            os.utime(path, (epoch, epoch), follow_symlinks=False)


def cpio(tree: Path, archive: Path, epoch: int, run: Callable[..., None], *, what: str) -> None:
    """Pack a tree as an initrd; every file has the time `epoch` and the owner root."""
    settle(tree, epoch, all_of_it=True)
    pack = f"{host_programs.find('cpio')} -o -H newc -R 0:0 --reproducible --quiet"
    script = f'find . | LC_ALL=C sort | {pack} >"$1"'
    run(["sh", "-c", script, "sh", str(archive)], cwd=tree, what=what)


def ext4(
    tree: Path, image: Path, size_mib: int, epoch: int, run: Callable[..., None], *, what: str
) -> None:
    """Make an ext4 image of a tree; keep modification times, set every other time to `epoch`."""
    clock = {"E2FSPROGS_FAKE_TIME": str(epoch), "SOURCE_DATE_EPOCH": str(epoch)}
    made = [
        host_programs.find("mke2fs"),
        "-q",
        *_OPTIONS,
        "-d",
        str(tree),
        str(image),
        f"{size_mib}M",
    ]
    run(made, env=clock, what=what)
    # mke2fs copies each file's access time, and its ctime, which no system call can set.
    commands = image.with_name(f"{image.name}.commands")
    commands.write_text(
        "".join(
            f"set_inode_field <{inode}> {field} @{epoch}\n"
            for inode in range(1, _inodes_used(image) + 1)
            for field in ("atime", "ctime", "crtime")
        )
    )
    run([host_programs.find("debugfs"), "-w", "-f", str(commands), str(image)], env=clock,
        what=what, quiet=True)  # fmt: skip
    commands.unlink()


def _inodes_used(image: Path) -> int:
    """The number of inodes in use in a new ext4 image; they are the first ones.

    struct ext4_super_block: s_inodes_count and s_free_inodes_count.
    """
    with image.open("rb") as file:
        file.seek(1024)
        total, _, _, _, free = struct.unpack("<5I", file.read(20))
    return int(total - free)
