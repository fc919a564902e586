"""Render where private memory came from: a row for each cause, a column for each process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from cowtrace.analysis.private import Accounts
from cowtrace.model import Account, Cause, Snapshot
from cowtrace.model.private_memory import COPIED, UNEXPLAINED
from cowtrace.numbers import MISSING, size
from cowtrace.terminal.columns import EXITED, Column, table
from cowtrace.terminal.footer import trust
from cowtrace.terminal.screen import View
from cowtrace.text import fit, printable

_LABEL_CELLS = 31
_CELLS = 9
_Value = Callable[[Account], int | None]


@dataclass(frozen=True, slots=True)
class _Row:
    label: str
    value: _Value
    always: bool = False  # shown though it is 0 for all


def view(found: Accounts, traced: Snapshot | None, seconds: float) -> View:
    """The processes whose private memory changed most come first. `seconds`: since the start."""
    accounts = found.accounts
    ordered = sorted(accounts, key=lambda one: (-abs(one.change), one.pid))

    def draw(_: int, width: int) -> RenderableType:
        shown = ordered[: max(1, (width - _LABEL_CELLS) // _CELLS - 1)]
        rows = [row for row in _ROWS if row.always or any(row.value(one) for one in accounts)]
        columns = [
            Column("\nPRIVATE MEMORY", lambda row, _: row.label, _LABEL_CELLS, right=False),
            *([_sum(ordered)] if len(ordered) > 1 else []),
            *map(_column, shown),
        ]
        words = f"{len(shown):,} of {len(accounts):,} processes"
        if not accounts:
            words = "no process could be read before it ended"
        if traced:
            footer = trust(traced, words)
        else:
            footer = Text(f"not traced, {seconds:,.1f} s: {words}", "dim")
        footer.append(f"\n{_reading(found)}")
        return Group(table(columns, rows), footer)

    return View(len(_ROWS), draw)


def _reading(found: Accounts) -> str:
    words = f"read in {found.seconds:.2f} s"
    if unread := sum(one.unread for one in found.accounts):
        words += f"; sparse mappings that were not read: {size(unread)}"
    if any(one.ended for one in found.accounts):
        words += f"; {EXITED} ended: as last read"
    return words


def _sum(accounts: Sequence[Account]) -> Column[_Row]:
    def text(row: _Row, _: int) -> str:
        values = [value for one in accounts if (value := row.value(one)) is not None]
        return size(sum(values)) if values else MISSING

    return Column(f"{len(accounts)} PRO-\nCESSES", text, _CELLS)


def _column(account: Account) -> Column[_Row]:
    name = fit(printable(account.comm), _CELLS - 2) + (EXITED if account.ended else "")
    return Column(f"{name}\n{account.pid}", lambda row, _: size(row.value(account)), _CELLS)


def _of(label: str) -> _Value:
    return lambda one: one.rows[label]


def _traced(cause: Cause) -> _Value:
    return lambda one: None if one.traced is None else one.traced.get(cause)


_ALWAYS = (COPIED, UNEXPLAINED)
_ROWS = (
    _Row("at the start", lambda one: one.began, always=True),
    *(_Row(label, _of(label), label in _ALWAYS) for label in Account(0).rows),
    _Row("  changed while it was read", lambda one: one.moved),
    _Row("now", lambda one: one.left, always=True),
    _Row("copies that a probe saw", _traced(Cause.REPLACED), always=True),
    _Row("  from files", _traced(Cause.FROM_FILE)),
    _Row("  of the zero page", _traced(Cause.ZERO_FILLED)),
    _Row("in swap, its share", lambda one: one.swap),
)
