"""What the oracles of single paths ask of the kernel, and what they make of its answers."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from typing import Any

import pytest

from cowtrace import libc
from cowtrace.workloads import fuse_file, pagemap
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.oracles import pagemap_scan, perf_events
from cowtrace.workloads.paths import absent
from cowtrace.workloads.region import (
    FILE_BYTE,
    PAGE_BYTES,
    Backing,
    Region,
    map_over,
    scratch_region,
)

PAGES = 23


def region(pages: int = PAGES) -> Region:
    return Region(pages, Backing.ANONYMOUS, memoryview(b""), None)


@pytest.mark.parametrize("protect", [True, False])
def test_a_scan_asks_for_written_pages_of_the_region(
    monkeypatch: pytest.MonkeyPatch, protect: bool
) -> None:
    asked: list[tuple[int, ...]] = []
    start = region().start
    ranges = [(start, start + 2 * PAGE_BYTES), (start + 7 * PAGE_BYTES, start + 8 * PAGE_BYTES)]

    def ioctl(file: Any, request: int, argument: bytearray) -> int:
        assert request >> 16 & 0x3FFF == len(argument)  # its size is in the number
        asked.append(struct.unpack("=12Q", argument))
        found = b"".join(struct.pack("=3Q", *one, 2) for one in ranges)
        ctypes.memmove(asked[0][5], found, len(found))
        return len(ranges)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert pagemap_scan.written_pages(region(), protect=protect) == {0, 1, 7}
    size, flags, first, end, _, _, most, *_ = asked[0]
    assert (size, first, end, most) == (96, start, start + PAGES * PAGE_BYTES, PAGES)
    assert flags & 1 == protect


def answer(opcode: int, body: bytes = b"") -> tuple[int, bytes]:
    return fuse_file._answer(opcode, body, PAGES * PAGE_BYTES)


def test_fuse_answers_have_the_sizes_of_the_kernels_structs() -> None:
    sizes = {opcode: len(answer(opcode)[1]) for opcode in (26, 3, 14, 18)}
    assert sizes == {26: 64, 3: 104, 14: 16, 18: 0}  # INIT, GETATTR, OPEN, RELEASE


def test_fuse_refuses_what_it_does_not_know() -> None:
    assert answer(16) == (errno.ENOSYS, b"")  # WRITE


@pytest.mark.parametrize(
    ("offset", "wanted", "got"),
    [(0, 4096, 4096), (PAGES * PAGE_BYTES - 5, 4096, 5), (PAGES * PAGE_BYTES + 1, 4096, 0)],
)
def test_fuse_reads_end_with_the_file(offset: int, wanted: int, got: int) -> None:
    request = struct.pack("=QQIIQII", 0, offset, wanted, 0, 0, 0, 0)  # struct fuse_read_in
    assert answer(15, request) == (0, bytes([FILE_BYTE]) * got)


def test_a_perf_event_is_asked_for_with_all_of_its_attributes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[Any, ...]] = []

    class Library:
        def syscall(self, *arguments: Any) -> int:
            calls.append(arguments)
            return 5

    monkeypatch.setattr(libc, "libc", Library)
    assert perf_events.open_event(7, 0, 11, 13, pid=-1, cpu=0) == 5
    (_, attr, pid, cpu, group, flags) = calls[0]
    assert struct.unpack_from("=II", attr) == (7, 72)
    assert struct.unpack_from("=QQ", attr, 56) == (11, 13)  # config1, config2
    assert (pid, cpu, group, flags) == (-1, 0, -1, 8)


@pytest.mark.parametrize(
    ("number", "known"), [(0, "known"), (errno.ENODEV, "unknown"), (errno.EPERM, None)]
)
def test_a_file_system_that_arrives_is_noticed(
    monkeypatch: pytest.MonkeyPatch, number: int, known: str | None
) -> None:
    def checked(result: int) -> int:
        if number:
            raise OSError(number, os.strerror(number))
        return os.open(os.devnull, os.O_RDONLY)

    monkeypatch.setattr(absent, "checked", checked)
    if known:
        assert absent._is_known("msharefs") == known
    else:
        with pytest.raises(Unsupported):
            absent._is_known("msharefs")


def test_the_kernel_counts_this_process_page_tables() -> None:
    assert absent._table_bytes() >= PAGE_BYTES


def test_memory_is_mapped_over_untouched() -> None:
    with scratch_region(3) as scratch:
        scratch.fill(7)
        fresh = map_over(scratch, Backing.ANONYMOUS, flags=0x22)  # MAP_PRIVATE | MAP_ANONYMOUS
        assert not any(entry >> 63 for entry in pagemap.region_entries(fresh))
        assert set(fresh.load()) == {0}


def test_a_mapping_that_is_refused_is_an_error() -> None:
    with scratch_region(1) as scratch, pytest.raises(OSError, match="Invalid argument"):
        map_over(scratch, Backing.ANONYMOUS, flags=0x20)  # neither private nor shared
