"""Look up the line of an instruction in a code object's line table. The tables are hostile.

Every function takes the table, the first line, and the instruction's offset in bytes, and returns
the line. None: the instruction has none, or the table does not reach it.
"""

from __future__ import annotations

from collections.abc import Callable

LineOf = Callable[[bytes, int, int], int | None]

_CODE_UNIT_BYTES = 2
_NO_LINE_3_10 = -128
# 3.11 and later: the forms of a location, PyCodeLocationInfoKind of pycore_code.h
_ONE_LINE = (10, 12)
_NO_COLUMNS, _LONG, _NO_LOCATION = 13, 14, 15
_MOST_VARINT_BYTES = 6  # of a 32-bit number, 6 bits in each byte


def in_lnotab(table: bytes, first_line: int, offset: int) -> int | None:
    """3.9: PyCode_Addr2Line() of Objects/codeobject.c."""
    line, at = first_line, 0
    for index in range(0, len(table) - 1, 2):
        at += table[index]
        if at > offset:
            break
        line += _signed_byte(table[index + 1])
    return line


def in_ranges(table: bytes, first_line: int, offset: int) -> int | None:
    """3.10: PEP 626. advance() of Objects/codeobject.c."""
    if offset < 0:
        return first_line
    line, end = first_line, 0
    for index in range(0, len(table) - 1, 2):
        end += table[index]
        delta = _signed_byte(table[index + 1])
        if delta != _NO_LINE_3_10:
            line += delta
        if offset < end:
            return None if delta == _NO_LINE_3_10 else line
    return None


def in_locations(table: bytes, first_line: int, offset: int) -> int | None:
    """3.11 and later: PEP 657. Objects/locations.md, since 3.14 InternalDocs/code_objects.md."""
    if offset < 0:
        return first_line
    line, end, at = first_line, 0, 0
    while at < len(table):
        form, units = table[at] >> 3 & 15, (table[at] & 7) + 1
        at += 1
        if form in (_LONG, _NO_COLUMNS):
            line += _signed_varint(table, at)
        elif _ONE_LINE[0] <= form <= _ONE_LINE[1]:
            line += form - _ONE_LINE[0]
        end += units * _CODE_UNIT_BYTES
        if offset < end:
            return None if form == _NO_LOCATION else line
        while at < len(table) and not table[at] & 0x80:  # the next form has this bit
            at += 1
    return None


def _signed_byte(value: int) -> int:
    return value - 256 if value > 127 else value


def _signed_varint(table: bytes, at: int) -> int:
    """6 bits in each byte, the lowest first; bit 6: another follows. The lowest bit is the sign."""
    value = 0
    for index, byte in enumerate(table[at : at + _MOST_VARINT_BYTES]):
        value |= (byte & 63) << 6 * index
        if not byte & 64:
            break
    return -(value >> 1) if value & 1 else value >> 1
