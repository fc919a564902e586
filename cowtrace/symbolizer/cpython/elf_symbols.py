"""Look up exported symbols of an ELF file by name, in its GNU hash table. The file is hostile."""

from __future__ import annotations

import os
import struct
from contextlib import suppress

from cowtrace.symbolizer.elf_segments import PT_DYNAMIC, PT_LOAD, segments, virtual_address

_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym
_ENTRY = struct.Struct("<qQ")  # Elf64_Dyn
_HASHES = struct.Struct("<IIII")  # buckets, first symbol, words of the Bloom filter, its shift
_DT_NULL, _DT_STRTAB, _DT_SYMTAB, _DT_GNU_HASH = 0, 5, 6, 0x6FFFFEF5
_SHN_UNDEF = 0
_MOST_SEGMENTS = 64
_MOST_ENTRIES = 256
_LONGEST_CHAIN = 256  # symbols with hashes of one bucket


class ElfSymbols:
    """The symbols that an open ELF file exports. Borrows `fd`.

    Raises ValueError when it is no ELF file with a GNU hash table, OSError when unreadable.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        found = segments(fd)[:_MOST_SEGMENTS]
        self._loaded = [each for each in found if each.type == PT_LOAD]
        dynamic = next((each for each in found if each.type == PT_DYNAMIC), None)
        if dynamic is None:
            raise ValueError("not linked dynamically")
        self._tables = self._dynamic(dynamic.offset, dynamic.bytes)

    def virtual_address(self, offset: int) -> int | None:
        """Where the file wants the byte at that offset to be loaded; None: nowhere."""
        return virtual_address(self._loaded, offset)

    def find(self, name: bytes) -> int | None:
        """The virtual address of a symbol; None: it is not exported."""
        with suppress(ValueError, OSError):
            return self._find(name)
        return None

    def _find(self, name: bytes) -> int | None:
        hashes = self._offset(self._tables[_DT_GNU_HASH])
        buckets, first, filters, _ = _HASHES.unpack(self._read(hashes, _HASHES.size))
        if not buckets:
            return None
        wanted = _gnu_hash(name)
        bucket_at = hashes + _HASHES.size + filters * 8
        chain_at = bucket_at + buckets * 4
        index = self._number(bucket_at + wanted % buckets * 4)
        if index < first:  # an empty bucket
            return None
        for at in range(index, index + _LONGEST_CHAIN):
            found = self._number(chain_at + (at - first) * 4)
            if found | 1 == wanted | 1 and (address := self._symbol(at, name)) is not None:
                return address
            if found & 1:  # the last of the bucket
                return None
        return None

    def _symbol(self, index: int, name: bytes) -> int | None:
        table = self._offset(self._tables[_DT_SYMTAB])
        symbol = _SYMBOL.unpack(self._read(table + index * _SYMBOL.size, _SYMBOL.size))
        at, section, value = symbol[0], symbol[3], symbol[4]
        names = self._offset(self._tables[_DT_STRTAB])
        if section == _SHN_UNDEF or self._read(names + at, len(name) + 1) != name + b"\0":
            return None
        return int(value)

    def _dynamic(self, at: int, size: int) -> dict[int, int]:
        """The addresses of the tables of symbols."""
        count = min(size // _ENTRY.size, _MOST_ENTRIES)
        found: dict[int, int] = {}
        for tag, value in _ENTRY.iter_unpack(self._read(at, count * _ENTRY.size)):
            if tag == _DT_NULL:
                break
            found[tag] = value
        if not {_DT_STRTAB, _DT_SYMTAB, _DT_GNU_HASH} <= found.keys():
            raise ValueError("no GNU hash table")
        return found

    def _offset(self, address: int) -> int:
        """Where the file has what is loaded at a virtual address."""
        for each in self._loaded:
            if each.address <= address < each.address + each.bytes:
                return each.offset + address - each.address
        raise ValueError("not in the file")

    def _number(self, at: int) -> int:
        return int.from_bytes(self._read(at, 4), "little")

    def _read(self, at: int, size: int) -> bytes:
        try:
            data = os.pread(self._fd, size, at)
        except OverflowError:
            raise ValueError("beyond the largest file") from None
        if len(data) != size:
            raise ValueError("beyond the end of the file")
        return data


def _gnu_hash(name: bytes) -> int:
    """Of DT_GNU_HASH: h * 33 + c."""
    found = 5381
    for byte in name:
        found = found * 33 + byte & 0xFFFFFFFF
    return found
