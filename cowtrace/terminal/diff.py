"""Render a comparison of two recordings as text of 80 columns."""

from __future__ import annotations

from rich.text import Text

from cowtrace.analysis.questions.answer import amount
from cowtrace.analysis.questions.compare import Change, Comparison, Section
from cowtrace.numbers import MISSING
from cowtrace.text import padded, printable, wrap

_NAME = 37
_MOST = 8  # mappings, functions, types
_LISTS = (3, 4, 12)  # the questions whose answer is a list of any length


def diff_text(found: Comparison) -> Text:
    """The verdict, reasons to doubt it, then each question."""
    text = Text()
    text.append(f"{wrap(printable(found.verdict))}\n", style="bold")
    for doubt in found.doubts:
        text.append(f"{wrap(printable(doubt), '! ', '  ')}\n", style="yellow")
    header = f"\n{'':{_NAME + 4}} {'BEFORE':>11} {'AFTER':>11} {'CHANGE':>9}\n"
    text.append(header, style="bold")
    for section in found.sections:
        if not section.changes:
            continue
        text.append(f"{section.number:2}. {section.question}\n", style="bold")
        shown = _first(section)
        for change in shown:
            before, after = (amount(v, change.unit) for v in (change.before, change.after))
            text.append(f"    {padded(change.name, _NAME)} {before:>11} {after:>11} ")
            percent = round((change.share or 0) * 100)
            style = "green" if percent < 0 else "red" if percent > 0 else "dim"
            text.append(f"{words(change):>9}\n", style=style)
        if len(shown) < len(section.changes):
            rest = f"    and {len(section.changes) - len(shown):,} smaller: see --json\n"
            text.append(rest, style="dim")
    text.rstrip()
    return text


def _first(section: Section) -> tuple[Change, ...]:
    """The largest items of a long list, before or after."""
    if section.number not in _LISTS:
        return section.changes
    largest = sorted(section.changes, key=lambda c: -max(c.before or 0, c.after or 0))
    return tuple(largest[:_MOST])


def words(change: Change) -> str:
    """`-73%`, `x 4.2`, `new`, `gone`."""
    if change.before is None or change.after is None:
        return MISSING
    if change.share is None:
        return "new"
    if change.after == 0 and change.before:
        return "gone"
    if change.share >= 2:
        return f"x {change.share + 1:,.1f}"
    rounded = round(change.share * 100)
    return f"{rounded:+}%" if rounded else "same"
