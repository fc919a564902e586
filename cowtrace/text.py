"""Make names that a process chose for itself safe to print."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len, chop_cells, set_cell_size

COLUMNS = 80  # what every view fits
UNKNOWN_CGROUP = "a cgroup that is not known"

_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})  # would reorder the numbers beside the name


def printable(raw: str) -> str:
    r"""The same name with everything that could act on a terminal made visible.

    Control characters, format characters (bidi, zero width), lone surrogates, unassigned
    characters and right-to-left letters become escapes such as ``\x1b`` or ``\u202e``.
    """
    if raw.isascii() and raw.isprintable():
        return raw
    return "".join(map(_visible, raw))


def fit(text: str, cells: int) -> str:
    """`text` cut to a number of terminal cells, with `…` where it was cut."""
    if cell_len(text) <= cells:
        return text
    return set_cell_size(text, cells - 1).rstrip() + "…"


def padded(text: str, cells: int) -> str:
    """`text` cut or padded with blanks to a number of terminal cells."""
    return set_cell_size(fit(text, cells), cells)


def wrap(words: str, first: str = "", indent: str | None = None) -> str:
    """In lines of at most 80 terminal cells; `indent` stands before each but the first.

    textwrap counts characters, and names can be of wide ones.
    """
    indent = first if indent is None else indent
    room = COLUMNS - max(len(first), len(indent))
    lines = [first]
    started = False
    for word in words.split():
        for piece in [word] if cell_len(word) <= room else chop_cells(word, room):
            if started and cell_len(lines[-1]) + 1 + cell_len(piece) > COLUMNS:
                lines.append(indent)
                started = False
            lines[-1] += " " * started + piece
            started = True
    return "\n".join(lines)


def fit_end(text: str, cells: int) -> str:
    """The same, cut at the start: the end distinguishes paths."""
    if cell_len(text) <= cells:
        return text
    end = text[-cells:]
    while cell_len(end) > cells - 1:
        end = end[1:]
    return "…" + end


def _visible(character: str) -> str:
    if character.isprintable() and unicodedata.bidirectional(character) not in _RIGHT_TO_LEFT:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
