"""Memory of a process is read where it is present, and nowhere else."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cowtrace.symbolizer.process_memory import ProcessMemory

PAGE = mmap.PAGESIZE
NAMES = {"memory": "mem", "pagemap": "pagemap"}


def opened(pid: int, missing: str = "") -> ProcessMemory:
    def open_(kind: str) -> int | None:
        return None if kind == missing else os.open(f"/proc/{pid}/{NAMES[kind]}", os.O_RDONLY)

    return ProcessMemory(open_)


@pytest.fixture
def own() -> Iterator[ProcessMemory]:
    memory = opened(os.getpid())
    yield memory
    memory.close()


@pytest.fixture
def pages() -> Iterator[tuple[mmap.mmap, int]]:
    """Four pages of which the second and the third have been touched; their address."""
    with mmap.mmap(-1, 4 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as made:
        made.madvise(mmap.MADV_NOHUGEPAGE)
        made[PAGE : 3 * PAGE] = b"\x17" * 2 * PAGE
        holder = ctypes.c_char.from_buffer(made)
        address = ctypes.addressof(holder)
        del holder
        yield made, address


def resident(address: int, count: int) -> int:
    """Of so many pages, by /proc/self/pagemap."""
    with open("/proc/self/pagemap", "rb", buffering=0) as file:  # noqa: PTH123 - not buffered
        file.seek(address // PAGE * 8)
        entries = file.read(8 * count)
    return sum(entries[at + 7] >> 7 for at in range(0, len(entries), 8))


def test_pages_that_are_not_present_stay_so(
    own: ProcessMemory, pages: tuple[mmap.mmap, int]
) -> None:
    _, at = pages
    assert own.is_alive()
    assert own.read(at + PAGE, 2 * PAGE) == b"\x17" * 2 * PAGE
    assert own.read(at, 8) == own.read(at + 3 * PAGE, 8) == own.read(at, 4 * PAGE) == b""
    assert own.read(at + 3 * PAGE - 5, 8) == b"\x17" * 5  # up to the page that is not present
    assert resident(at, 4) == 2


def test_constants_of_a_program_are_read_wherever_they_are(own: ProcessMemory) -> None:
    """A constant of the C library that this process has never read: its last page of them."""
    with open("/proc/self/maps", "rb") as file:  # noqa: PTH123
        maps = file.read()
    lines = [line.split() for line in maps.splitlines() if b"libc.so" in line]
    (end,) = (int(line[0].split(b"-")[1], 16) for line in lines if line[1] == b"r-xp")
    data = next(int(line[0].split(b"-")[1], 16) for line in lines if line[1] == b"rw-p")
    assert own.is_alive()
    before = resident(end - PAGE, 1)
    assert (own.read(end - PAGE, 8) != b"") is bool(before)
    assert own.is_alive(maps)
    assert len(own.read(end - PAGE, 8)) == 8
    assert (own.read(data - PAGE, 8) != b"") is bool(resident(data - PAGE, 1))


def test_each_request_looks_anew(own: ProcessMemory, pages: tuple[mmap.mmap, int]) -> None:
    made, at = pages
    assert own.is_alive()
    assert own.read(at, 1) == b""
    made[0] = 23
    assert own.is_alive()
    assert own.read(at, 1) == b"\x17"


def test_a_process_that_has_ended_is_not_alive() -> None:
    script = "input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as other:
        memory = opened(other.pid)
        assert memory.is_alive()
    assert not memory.is_alive()
    assert memory.read(0x1000, 8) == b""
    memory.close()
    memory.close()


@pytest.mark.parametrize("missing", ["memory", "pagemap"])
def test_without_one_of_the_files_nothing_is_read(
    missing: str, pages: tuple[mmap.mmap, int]
) -> None:
    memory = opened(os.getpid(), missing)
    assert not memory.is_alive()
    assert memory.read(pages[1] + PAGE, 8) == b""
    memory.close()
