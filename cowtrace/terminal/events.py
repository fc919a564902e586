"""Render single faults, one line each: in 80 columns, or with every column whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.cells import cell_len

from cowtrace.analysis.mappings import label
from cowtrace.model import Event
from cowtrace.numbers import MISSING, brief
from cowtrace.text import COLUMNS, fit, fit_end, printable

# Sources and origins in 4 cells; -v shows the words.
_SHORT = {"hugetlb": "huge", "kernel": "kern", "remote": "rem", "unshare": "unsh"}


@dataclass(frozen=True, slots=True)
class _Column:
    header: str
    cells: int
    text: Callable[[Event], str]
    right: bool = False


class EventLines:
    """Lays out the columns once; times are those of the wall clock."""

    def __init__(self, *, width: int = COLUMNS, wide: bool = False, timed: bool = True) -> None:
        # CLOCK_MONOTONIC to the wall clock, as it stands now.
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._wide = wide
        columns = self._all() if wide else self._narrow(width, timed)
        self._columns = [column for column in columns if timed or column.header != "TOOK"]

    def head(self) -> str:
        """The names of the columns."""
        return self._join(column.header for column in self._columns)

    def line(self, event: Event) -> str:
        """One fault."""
        return self._join(column.text(event) for column in self._columns)

    def _join(self, texts: object) -> str:
        cells = []
        for column, text in zip(self._columns, texts, strict=True):  # type: ignore[call-overload]
            whole = self._wide or not column.cells
            shown = text if whole else fit(text, column.cells)
            pad = " " * max(0, column.cells - cell_len(shown))
            cells.append(pad + shown if column.right else shown + pad)
        return " ".join(cells).rstrip()

    def _narrow(self, width: int, timed: bool) -> list[_Column]:
        fixed = 12 + 7 + 8 + 11 + 4 + 4 + 12 + (7 if timed else 0)
        left = max(4, width - fixed - (8 if timed else 7))
        return [
            _Column("TIME", 12, lambda e: self._clock(e, 3)),
            _Column("PID", 7, lambda e: str(e.pid), right=True),
            _Column("COMM", 8, lambda e: printable(e.comm)),
            _Column("KIND", 11, lambda e: e.kind.label),
            _Column("SRC", 4, lambda e: _SHORT.get(_source(e), _source(e))),
            _Column("FROM", 4, lambda e: _SHORT.get(e.origin.name.lower(), e.origin.name.lower())),
            _Column("ADDRESS", 12, _address, right=True),
            _Column("MAPPING", left, lambda e: _mapping(e, left)),
            _Column("TOOK", 7, lambda e: brief(e.ns), right=True),
        ]

    def _all(self) -> list[_Column]:
        return [
            _Column("TIME", 15, lambda e: self._clock(e, 6)),
            _Column("PID", 7, lambda e: str(e.pid), right=True),
            _Column("TID", 7, lambda e: str(e.tid), right=True),
            _Column("COMM", 15, lambda e: printable(e.comm)),
            _Column("KIND", 12, lambda e: e.kind.label),
            _Column("SOURCE", 7, _source),
            _Column("ORIGIN", 7, lambda e: e.origin.name.lower()),
            _Column("ADDRESS", 12, _address, right=True),
            _Column("BYTES", 7, lambda e: str(e.bytes), right=True),
            _Column("TOOK", 7, lambda e: brief(e.ns), right=True),
            _Column("MAPPING", 0, lambda e: _mapping(e, None)),
        ]

    def _clock(self, event: Event, digits: int) -> str:
        seconds, ns = divmod(event.at_ns + self._offset_ns, 1_000_000_000)
        return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{ns:09}"[: 9 + digits]


def _source(event: Event) -> str:
    return event.source.label or MISSING


def _address(event: Event) -> str:
    """The last digits of a page's address are not those of the byte that was written."""
    text = f"{event.address:x}"
    return text if event.is_exact else text[:-3] + 3 * MISSING


def _mapping(event: Event, cells: int | None) -> str:
    if event.mapping is None:
        return MISSING
    name = printable(label(event.mapping))
    if cells is None:
        return name
    return (fit_end if name.startswith("/") else fit)(name, cells)
