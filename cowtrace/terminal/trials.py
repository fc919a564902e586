"""Render the comparison of a command's variants as text of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from cowtrace.analysis.questions.answer import amount
from cowtrace.analysis.questions.compare import SAME
from cowtrace.analysis.trials import CONFIDENCE, Comparison, Difference
from cowtrace.numbers import MISSING
from cowtrace.text import COLUMNS, fit, padded, printable, wrap

_NAME, _VALUE = 20, 9
NONE = "no difference shown"
_HOW = (
    f"Means of all runs. In brackets: {CONFIDENCE:.0%} confidence for all rows together "
    f"(bootstrap, Bonferroni). Less than {SAME:.1%} counts as no difference."
)


def trials_text(
    found: Sequence[Comparison], how: str, legend: Mapping[str, str], doubts: Sequence[str]
) -> Text:
    """The verdicts, how they were found, reasons to doubt them, and a table for each.

    `legend`: the command of each variant.
    """
    text = Text()
    for each in found:
        text.append(f"{wrap(printable(each.verdict))}\n", style="bold")
    text.append(f"{wrap(how)}\n")
    for name, command in legend.items():
        text.append(f"{fit(printable(f'{name}: {command}'), COLUMNS)}\n")
    for doubt in doubts:
        text.append(f"{wrap(printable(doubt), '! ', '  ')}\n", style="yellow")
    for each in found:
        heads = (fit(name, _VALUE) for name in (each.base, each.name))
        base, name = (f"{head:>{_VALUE}}" for head in heads)
        text.append(f"\n{'':{_NAME}} {base} {name}  DIFFERENCE\n", style="bold")
        for row in each.differences:
            values = (amount(value, row.unit) for value in (row.base, row.value))
            text.append(f"{padded(row.name, _NAME)} {' '.join(f'{v:>{_VALUE}}' for v in values)}  ")
            less = (row.change or 0) < 0
            style = ("green" if less else "red") if row.is_shown else "dim"
            text.append(f"{words(row)}\n", style=style)
    text.append(f"\n{wrap(_HOW)}", style="dim")
    return text


def words(row: Difference) -> str:
    """`-71.2% (-73.1 to -69.9)`, `no difference shown (-9.9 to +5.1%)`."""
    if row.change is None:
        return MISSING
    if row.low is None or row.high is None:
        return f"{_signed(row, row.change)} (too few runs)"
    if row.low == row.high:
        change = _signed(row, row.change) if row.low else "all the same"
        return f"{change} in each run" if row.is_shown else f"{NONE} ({change})"
    low, high = _signed(row, row.low), _signed(row, row.high)
    if row.is_shown:
        return f"{_signed(row, row.change)} ({low.removesuffix('%')} to {high})"
    if not row.relative:
        return f"{NONE} (±{amount(max(abs(row.low), abs(row.high)), row.unit)})"
    return f"{NONE} ({low.removesuffix('%')} to {high})"


def _signed(row: Difference, value: float) -> str:
    if row.relative:
        digits = 2 if abs(value) < 0.000995 else 1 if abs(value) < 9.995 else 0
        return f"{100 * value:+.{digits}f}%"
    return f"{'-' if value < 0 else '+'}{amount(abs(value), row.unit)}"
