"""Numbers in, text out: medians with their spread, Markdown tables of at most 80 columns."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

COLUMNS = 80


@dataclass(frozen=True, slots=True)
class Spread:
    """What a median stands for: half of all values lie between low and high."""

    median: float
    low: float
    high: float

    def __sub__(self, other: float) -> Spread:
        return Spread(self.median - other, self.low - other, self.high - other)

    def __truediv__(self, other: float) -> Spread:
        return Spread(self.median / other, self.low / other, self.high / other)


def spread(values: Iterable[float]) -> Spread:
    """Median and quartiles."""
    found = sorted(values)
    if len(found) < 2:
        return Spread(found[0], found[0], found[0])
    low, median, high = statistics.quantiles(found, n=4, method="inclusive")
    return Spread(median, low, high)


@dataclass(frozen=True, slots=True)
class Report:
    """What a section found out."""

    title: str
    lines: Sequence[str]  # Markdown
    data: object = field(repr=False)  # for JSON


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table: the first column to the left, the others to the right."""
    cells = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headings))]
    lines = [
        "| "
        + " | ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in cells
    ]
    rule = "|".join("-" * (w + 2) if not i else "-" * (w + 1) + ":" for i, w in enumerate(widths))
    lines.insert(1, f"|{rule}|")
    return lines


def prose(text: str) -> list[str]:
    """A paragraph, wrapped, with an empty line before it."""
    return ["", *textwrap.wrap(text, COLUMNS, break_on_hyphens=False)]


def commands(named: Iterable[tuple[str, str]]) -> list[str]:
    """How each figure was made, as a list."""
    lines = [""]
    for name, command in named:
        lines += textwrap.wrap(
            f"- {name}: `{command}`",
            COLUMNS,
            subsequent_indent="  ",
            break_on_hyphens=False,
            break_long_words=False,
        )
    return lines


def signed(value: Spread) -> str:
    """`+1,234 ±5`: the median, and half of the distance between the quartiles."""
    return f"{value.median:+,.0f} ±{(value.high - value.low) / 2:,.0f}"


def percent(value: Spread) -> str:
    """`+6.1 % (+5.2 to +7.0)` of a ratio."""
    low, high = (100 * (x - 1) for x in (value.low, value.high))
    return f"{100 * (value.median - 1):+.1f} % ({low:+.1f} to {high:+.1f})"
