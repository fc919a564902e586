"""Make ELF files whose code runs, and whose everything else is meant for who names its code.

The loader of a hostile process needs no section: code.c maps a file and calls its second page.
"""

from __future__ import annotations

import lzma
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PAGE = 4096
_CODE = bytes.fromhex("c60702c3").ljust(16, b"\x90")  # movb $2, (%rdi); ret
_PROGBITS, _SYMTAB, _STRTAB, _NOBITS = 1, 2, 3, 8
_ALLOC, _COMPRESSED = 2, 0x800
_LOAD, _NOTE = 1, 4
_TEXT = struct.pack("<QQ", PAGE, PAGE)  # where the code starts, and its size
_RANDOM = random.Random(509)


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    data: bytes
    kind: int = _PROGBITS
    flags: int = 0
    claimed: int | None = None  # sh_size, if it is a lie
    link: int = 0
    each: int = 0


def _elf(
    sections: Sequence[Section] = (),
    *,
    segments: bytes = b"",
    code_pages: int = 1,
    change: Callable[[bytearray], None] = lambda head: None,
) -> bytes:
    """`segments`: program headers beside that of the code; `change`: changes the header."""
    code = _CODE * (PAGE // len(_CODE) * code_pages)
    load = struct.pack("<IIQQQQQQ", _LOAD, 5, 0, 0, 0, PAGE + len(code), PAGE + len(code), PAGE)
    names, headers, data = b"\0", bytes(64), b""
    offset = PAGE + len(code)
    for section in (*sections, Section(".shstrtab", b"", _STRTAB)):
        at = len(names)
        names += section.name.encode() + b"\0"
        content = names if section.name == ".shstrtab" else section.data
        size = len(content) if section.claimed is None else section.claimed
        headers += struct.pack(
            "<IIQQQQIIQQ", at, section.kind, section.flags,
            offset + len(data) if section.flags & _ALLOC else 0, offset + len(data),
            size & (1 << 64) - 1,
            section.link, 0, 1, section.each,
        )  # fmt: skip
        data += content.ljust(len(content) + 7 & ~7, b"\0")
    count = len(headers) // 64
    head = bytearray(
        b"\x7fELF\2\1\1".ljust(16, b"\0")
        + struct.pack(
            "<HHIQQQIHHHHHH",
            3,
            62,
            1,
            PAGE,
            64,
            offset + len(data),
            0,
            64,
            56,
            1 + len(segments) // 56,
            64,
            count,
            count - 1,
        )
    )
    change(head)
    table = bytes(head) + load + segments
    return table[:PAGE].ljust(PAGE, b"\0") + code + data + headers


def _symbols(symbols: bytes, strings: bytes, **lies: int) -> list[Section]:
    return [
        Section(".symtab", symbols, _SYMTAB, link=2, each=lies.pop("each", 24), **lies),
        Section(".strtab", strings, _STRTAB),
    ]


def _symbol(name: int, value: int = PAGE, size: int = PAGE) -> bytes:
    return struct.pack("<IBBHQQ", name, 0x12, 0, 1, value, size & (1 << 64) - 1)


def _hostile_names() -> bytes:
    strings = b"\0\x1b]0;PWNED\x07\x1b[2J\n\r'\"<script>alert(1)</script>;\x9b31m\0"
    return _elf(_symbols(_symbol(1, size=-1), strings))


def _two_million_symbols() -> bytes:
    strings = b"\0" + b"s" * 65535 + b"\0"
    one = b"".join(_symbol(1 + i % 60000, PAGE + i % PAGE, 1) for i in range(65536))
    return _elf(_symbols(one * 32, strings))


def _impossible_sizes() -> bytes:
    def change(head: bytearray) -> None:
        head[60:64] = struct.pack("<HH", 0, 0xFFFF)  # e_shnum, e_shstrndx: see section 0

    return _elf(_symbols(_symbol(1), b"\0n\0", claimed=1 << 40, each=0), change=change)


def _unterminated_strings() -> bytes:
    return _elf(_symbols(_symbol(0x7FFFFFFF) + _symbol(3), b"\0x" + b"y" * 100, claimed=1 << 62))


def _huge_note() -> bytes:
    note = struct.pack("<IIQQQQQQ", _NOTE, 4, PAGE, PAGE, PAGE, 1 << 62, 1 << 62, 4)
    claims = struct.pack("<III", 0xFFFFFFFF, 0xFFFFFFF0, 3) + b"GNU\0"
    return _elf([Section(".note.gnu.build-id", claims, 7, _ALLOC, claimed=1 << 33)], segments=note)


def _overlapping_segments() -> bytes:
    segments = b"".join(
        struct.pack(
            "<IIQQQQQQ", _LOAD, 7, i * 8, (1 << 64) - (i + 1 << 12), 0, 1 << 40, 1 << 63, i * 3
        )
        for i in range(60)
    )
    return _elf(_symbols(_symbol(1), b"\0f\0"), segments=segments)


def _too_many_segments() -> bytes:
    def change(head: bytearray) -> None:
        head[54:58] = struct.pack("<HH", 1, 0xFFFF)  # e_phentsize, e_phnum

    return _elf(change=change)


def _lzma_bomb() -> bytes:
    return _elf([Section(".gnu_debugdata", lzma.compress(bytes(1 << 28), preset=0))])


def _zlib_bomb() -> bytes:
    squeezed = zlib.compress(bytes(1 << 27), 1)
    head = struct.pack("<IIQQ", 1, 0, 1 << 36, 1)  # ELFCOMPRESS_ZLIB, ch_size, ch_addralign
    names = (".debug_frame", ".debug_info", ".debug_abbrev", ".symtab")
    return _elf([Section(name, head + squeezed, flags=_COMPRESSED) for name in names])


_CIE = b"\1zR\0\1\x78\x10\1\0" + bytes.fromhex("0c07089001")  # CFA = rsp + 8, return address there


def _frames(instructions: bytes, copies: int = 1) -> bytes:
    cie = struct.pack("<II", len(_CIE) + 4, 0) + _CIE
    found = bytearray(cie)
    body = _TEXT + b"\0" + instructions
    for _ in range(copies):
        found += struct.pack("<II", len(body) + 4, len(found) + 4) + body
    return bytes(found) + bytes(4)


def _endless_expression() -> bytes:
    loop = b"\x77\0\x2f\xfd\xff"  # DW_OP_breg7 0, DW_OP_skip -3
    return _elf([Section(".eh_frame", _frames(b"\x0f\5" + loop), flags=_ALLOC)])


def _endless_frames() -> bytes:
    # The caller is the function itself: the return address is this address, with the same stack.
    same = b"\x0c\7\0" + b"\x16\x10\2\x80\0" + b"\x16\7\2\x77\0"
    return _elf([Section(".eh_frame", _frames(same), flags=_ALLOC)])


def _million_frame_entries() -> bytes:
    far = struct.pack("<QQ", 1 << 40, 1) + b"\0"
    entry = struct.pack("<II", len(far) + 4, 0xFFFFFFF0) + far
    data = _frames(b"")[:-4] + entry * 1_000_000 + bytes(4)
    return _elf([Section(".eh_frame", data, flags=_ALLOC)])


def _broken_frames() -> bytes:
    data = struct.pack("<IQI", 0xFFFFFFFF, 1 << 62, 0) + b"\1z" + b"R" * 5000
    return _elf(
        [Section(".eh_frame", data, flags=_ALLOC), Section(".eh_frame_hdr", b"\1\x1b\3\x3b" * 9)]
    )


def debug_link(name: str) -> bytes:
    """A file that says that `name` has its symbols."""
    padded = name.encode() + b"\0" * (4 - len(name) % 4) + b"\1\2\3\4"
    return _elf(
        [
            Section(".gnu_debuglink", padded),
            Section(".gnu_debugaltlink", name.encode() + b"\0" * 21),
        ]
    )


def _other_machine() -> bytes:
    def change(head: bytearray) -> None:
        head[4:6] = b"\1\2"  # ELFCLASS32, big endian
        head[18:20] = b"\0\x08"

    return _elf(change=change)


def _no_elf() -> bytes:
    return b"\x7fELF".ljust(PAGE, b"\xff") + _CODE * 256


def _many_code_pages() -> bytes:
    return _elf(code_pages=256)


def plain() -> bytes:
    """An honest file with one function."""
    return _elf(_symbols(_symbol(1), b"\0writes\0"))


def corrupted() -> bytes:
    """Another file at each call: all sections, and wrong bytes anywhere but in its code."""
    sections = _symbols(_symbol(1) * 50, b"\0writes\0")
    sections += [
        Section(".eh_frame", _frames(b"", 20), flags=_ALLOC),
        Section(".dynsym", _symbol(1)),
    ]
    found = bytearray(_elf(sections))
    places = [*range(6, 64), *range(120), *range(2 * PAGE, len(found))]
    for _ in range(_RANDOM.randrange(1, 40)):
        at = _RANDOM.choice(places)
        if at > 5:
            found[at] = _RANDOM.choice((0, 1, 0x7F, 0x80, 0xFF, _RANDOM.randrange(256)))
    return bytes(found)


FILES: dict[str, Callable[[], bytes]] = {
    "names": _hostile_names,
    "2,097,152 symbols": _two_million_symbols,
    "impossible sizes": _impossible_sizes,
    "unterminated strings": _unterminated_strings,
    "note of gigabytes": _huge_note,
    "overlapping segments": _overlapping_segments,
    "65,535 segments": _too_many_segments,
    "xz bomb": _lzma_bomb,
    "zlib bomb": _zlib_bomb,
    "endless expression": _endless_expression,
    "endless frames": _endless_frames,
    "1,000,000 frame entries": _million_frame_entries,
    "broken frames": _broken_frames,
    "other machine": _other_machine,
    "no ELF": _no_elf,
    "corrupted": corrupted,
    "65,536 functions": _many_code_pages,
}


@cache
def _made(name: str) -> bytes:
    return FILES[name]()


def write(name: str, path: Path) -> None:
    """`corrupted` is another file each time."""
    path.write_bytes(corrupted() if name == "corrupted" else _made(name))
