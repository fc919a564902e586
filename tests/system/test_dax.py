"""Private pages of a DAX file, read and then written: copies, from memory of a device."""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from workload_checks import attached

from cowtrace.model import FaultKind, Source
from cowtrace.workloads.region import REGION_START

pytestmark = [
    pytest.mark.vm,
    pytest.mark.x86_64,  # the VM has persistent memory there alone
    pytest.mark.spread("6.1"),
]

PAGES = 131
SIZE = PAGES * mmap.PAGESIZE
DEVICE = Path("/dev/pmem0")

# Not with Python's mmap module: it cannot map at a given address.
CODE = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
file = os.open(sys.argv[1], os.O_RDWR)
at = libc.mmap({REGION_START}, {SIZE}, 3, 0x100002, file, 0)  # private, fixed, not replacing
assert at == {REGION_START}, ctypes.get_errno()
for page in range({PAGES}):
    assert ctypes.string_at(at + page * {mmap.PAGESIZE}, 1) == b"f"
for page in range({PAGES}):
    ctypes.memset(at + page * {mmap.PAGESIZE}, 99, 1)
"""


@pytest.fixture
def dax_file(tmp_path: Path) -> Iterator[Path]:
    """A file of PAGES pages in a file system that maps its device's memory."""
    for module in ("nd_e820", "nd_pmem"):
        subprocess.run(["modprobe", module], check=True)
    folder = tmp_path / "dax"
    folder.mkdir()
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", str(mmap.PAGESIZE), DEVICE], check=True)
    subprocess.run(["mount", "-o", "dax", DEVICE, folder], check=True)
    try:
        file = folder / "pages"
        file.write_bytes(b"f" * SIZE)
        yield file
    finally:
        subprocess.run(["umount", folder], check=True)


def test_pages_of_a_dax_file_are_copied(dax_file: Path) -> None:
    with ExitStack() as stack:
        tracers = attached(stack, region=(REGION_START, REGION_START + SIZE))
        child = subprocess.Popen([sys.executable, "-c", CODE, dax_file])
        assert child.wait() == 0
        for name, live in tracers.items():
            seen = live.snapshot().process(child.pid)
            assert seen, name
            found = {(row.kind, row.source): row.faults for row in seen.rows}
            expected = (
                Source.FILE
                if "PLAN_TRACEPOINT" not in live.probe_plan.defines
                or ("PAGE_TABLE" in live.probe_plan.defines)
                else Source.UNKNOWN
            )
            assert found == {(FaultKind.COPIED, expected): PAGES}, name
