"""Files of /proc that hold what others have named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cowtrace import proc as procfs
from cowtrace.cli import cgroups
from cowtrace.workloads.oracles.proc_files import smaps_sizes


def test_a_name_in_smaps_ends_no_line(tmp_path: Path) -> None:
    """A next-line character, or a line of its own shape, in the name of a file."""
    file = tmp_path / "smaps"
    names = ("/tmp/a\x85\u2028b", "/tmp/x Private_Dirty:   99 kB", "/tmp/1000-2000 rw-p (deleted)")
    file.write_text(
        "".join(
            f"{at:x}-{at + 0x1000:x} rw-p 00000000 08:01 5      {name}\n"
            "Private_Dirty:         4 kB\nVmFlags: rd wr\n"
            for at, name in zip((0x1000, 0x2000, 0x9000), names, strict=True)
        )
    )
    assert smaps_sizes(0x1000, 0x2000, file) == {"Private_Dirty": 2 * 4096}


def test_a_mount_point_is_read_as_the_kernel_escapes_it() -> None:
    line = r"36 35 0:30 / /a\040b\011c\012d\134040 rw - cgroup2 none rw"
    assert cgroups._roots(line) == [Path("/a b\tc\nd\\040")]


def test_meminfo_need_not_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, another program may stand for it (lxcfs)."""
    monkeypatch.setattr(procfs, "_PROC", tmp_path)
    (tmp_path / "meminfo").write_bytes(b"MemTotal: 9 kB\n\xff\nMemAvailable:    23 kB\n")
    assert procfs.available_bytes() == 23 * 1024


def test_a_process_that_nobody_has_waited_for_runs_no_more() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    try:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert procfs.exists(child)
        assert not procfs.runs(child)
    finally:
        os.waitpid(child, 0)
    assert procfs.runs(os.getpid())
