"""Read the entries of a process from a /proc of the test's making."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest

from cowtrace.frames import entries
from cowtrace.frames.entries import AddressSpace, Gone
from cowtrace.frames.words import CHUNK_PAGES, PAGE_BYTES, Chunk

ANON, FILE = 0x80 << 56, 0xA0 << 56
ZERO = 509  # frame of the zero page


def made(proc: Path, pid: int, maps: str, words: dict[int, int]) -> None:
    """`words`: entries by page number."""
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "maps").write_text(maps)
    (folder / "statm").write_text("99 23 0 0 0 0 0\n")
    ends = [int(line.split()[0].partition("-")[2], 16) for line in maps.splitlines()]
    with (folder / "pagemap").open("wb") as pagemap:
        pagemap.truncate(max(ends) // PAGE_BYTES * 8)
        for page, word in words.items():
            pagemap.seek(page * 8)
            pagemap.write(struct.pack("=Q", word))


def line(first: int, pages: int, rights: str = "rw-p", name: str = "") -> str:
    at = first * PAGE_BYTES
    return f"{at:x}-{at + pages * PAGE_BYTES:x} {rights} 00000000 00:00 0   {name}\n"


def read(proc: Path) -> AddressSpace:
    return entries.read(7, ZERO, {}, proc)


def found(proc: Path) -> dict[int, int]:
    """Entries that are not 0, by page number."""
    return {
        number * CHUNK_PAGES + at: word
        for number, chunk in read(proc).chunks.items()
        for at, (word,) in enumerate(struct.iter_unpack("=Q", chunk))
        if word
    }


def test_mappings_that_meet_in_a_chunk_are_one(tmp_path: Path) -> None:
    words = {509: ANON | 1, 511: ANON | 2, 512: ANON | 3, 1030: ANON | 4}
    made(tmp_path, 7, line(500, 11) + line(511, 2) + line(1024, 23), words)
    assert found(tmp_path) == words
    assert sorted(read(tmp_path).chunks) == [0, 1, 2]


def test_pages_of_files_are_only_counted(tmp_path: Path) -> None:
    maps = line(0, 4, name="/srv/private") + line(512, 512, "r--s", "/srv/shared")
    words = {0: FILE | 1, 1: ANON | 2, 3: FILE | 3} | {
        page: FILE | page for page in range(512, 523)
    }
    made(tmp_path, 7, maps, words)
    assert found(tmp_path) == {1: ANON | 2}
    assert read(tmp_path).files == 2 + 11


def test_equal_chunks_of_several_are_one_object(tmp_path: Path) -> None:
    made(tmp_path, 7, line(0, 2), {0: ANON | 1})
    made(tmp_path, 8, line(0, 2), {0: ANON | 1})
    same: dict[bytes, Chunk] = {}
    one, other = (entries.read(pid, ZERO, same, tmp_path) for pid in (7, 8))
    assert one.chunks[0] is other.chunks[0]


def test_what_lies_outside_of_the_mappings_is_not_read(tmp_path: Path) -> None:
    made(tmp_path, 7, line(3, 2), {2: ANON | 1, 3: ANON | 2, 4: ANON | 3, 5: ANON | 4})
    assert found(tmp_path) == {3: ANON | 2, 4: ANON | 3}


def test_memory_of_devices_and_of_the_kernel_is_left_out(tmp_path: Path) -> None:
    maps = line(3, 2, "rw-s", "/dev/gpu") + line(10, 4, "r--p", "[vvar]")
    maps += line(14, 2, "r--p", "[vvar_vclock]") + line(20, 1, "r--p", "[heap]")
    words = {3: ANON | 1, 4: FILE | 2, 10: ANON | 3, 14: ANON | 4, 20: ANON | 5}
    made(tmp_path, 7, maps, words)
    assert found(tmp_path) == {20: ANON | 5}
    assert read(tmp_path).files == 1


def test_names_are_bytes_of_the_processs_choice(tmp_path: Path) -> None:
    made(tmp_path, 7, line(3, 1, name="/x\\012[vvar] \x1b[2J"), {3: ANON | 1})
    assert found(tmp_path) == {3: ANON | 1}


def test_a_sparse_mapping_is_asked_where_it_has_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = 1 << 20
    pages = {first + page: ANON | 1 for page in (9, 300, 9000)}
    made(tmp_path, 7, line(first, 1 << 20), pages)
    read_parts: list[tuple[int, int]] = []

    def regions(self: object, start: int, end: int) -> list[tuple[int, int]]:
        return [(page * PAGE_BYTES, (page + 1) * PAGE_BYTES) for page in pages]

    def pread(fd: int, size: int, at: int) -> bytes:
        read_parts.append((at // 8 - first, size // 8))
        return os_pread(fd, size, at)

    os_pread = os.pread
    monkeypatch.setattr(entries._Sparse, "_regions", regions)
    monkeypatch.setattr(os, "pread", pread)
    assert found(tmp_path) == pages
    assert read_parts == [(0, 301), (9000, 1)]  # what lies close is read at once


def test_where_the_kernel_cannot_tell_all_of_it_is_read(tmp_path: Path) -> None:
    pages = 20_011  # more than 64 MiB; a file has no such ioctl
    made(tmp_path, 7, line(512, pages), {512 + pages - 1: ANON | 1})
    assert found(tmp_path) == {512 + pages - 1: ANON | 1}
    assert read(tmp_path).unread == 0


def test_what_would_take_too_long_is_said_to_be_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "_MOST_SPARSE_BYTES", 20_010 * PAGE_BYTES)
    made(tmp_path, 7, line(512, 20_011) + line(40_000, 2), {513: ANON | 1, 40_001: ANON | 2})
    assert found(tmp_path) == {40_001: ANON | 2}
    assert read(tmp_path).unread == 20_011 * PAGE_BYTES


@pytest.mark.skipif(os.geteuid() != 0, reason="frame numbers are root's")
@pytest.mark.parametrize("regions", [1, 511, 512, 513, 700, 1024, 1025, 2048])
def test_the_kernel_names_all_pages_of_a_sparse_mapping(regions: int) -> None:
    """Every other page of the last, so that each is a region, or the pages before it none."""
    pages = entries._SPARSE_BYTES // PAGE_BYTES + 512
    with mmap.mmap(-1, pages * PAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        with suppress(OSError):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        written = range(pages - 2 * regions, pages, 2)
        for page in written:
            memory[page * PAGE_BYTES] = 1
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory)) // PAGE_BYTES
        chunks = entries.read(os.getpid(), ZERO, {}).chunks
        for page in range(pages):
            number, at = divmod(start + page, CHUNK_PAGES)
            is_there = number in chunks and any(chunks[number][at * 8 : at * 8 + 8])
            assert is_there == (page in written), page


def test_a_process_that_has_ended(tmp_path: Path) -> None:
    with pytest.raises(Gone):
        read(tmp_path)


def test_one_that_ends_while_it_is_read(tmp_path: Path) -> None:
    made(tmp_path, 7, line(0, 20), {0: ANON | 1})
    (tmp_path / "7" / "statm").write_text("0 0 0 0 0 0 0\n")
    with pytest.raises(Gone):
        read(tmp_path)
    os.truncate(tmp_path / "7" / "pagemap", 9)
    with pytest.raises(Gone):
        read(tmp_path)
