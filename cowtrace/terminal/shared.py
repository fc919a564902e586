"""Render what processes share: a row for each, and a table of what each two have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.text import Text

from cowtrace.analysis.shared import Holder, Sharing
from cowtrace.analysis.shared_mappings import MappingShare
from cowtrace.numbers import MISSING, size
from cowtrace.terminal.columns import Column, fitted, table
from cowtrace.terminal.screen import View
from cowtrace.text import fit, printable

_DISPENSABLE = ("\nSWAPPED", "\nFILES", "WITH\nOTHERS")
_NAME_CELLS = 17
_PID_CELLS = 7
_CELLS = 8
_MAPPINGS = 5  # of a process


def view(now: Sharing, names: Mapping[int, str]) -> View:
    """The processes that share most come first. `names`: by pid."""
    ordered = sorted(now.holders, key=lambda held: (-held.common, -held.freed_by_exit, held.pid))

    def draw(shown: int, width: int) -> RenderableType:
        rows = ordered[:shown]
        columns = fitted(_columns(names), width, _DISPENSABLE)
        return Group(
            table(columns, rows),
            *(
                _matrix(now, rows, names, width)
                if now.mappings is None
                else _mappings(now.mappings, rows, names, width)
            ),
            Text(_footer(now, len(rows)), "dim"),
        )

    return View(len(ordered), draw, lines_per_row=2)


def _columns(names: Mapping[int, str]) -> tuple[Column[Holder], ...]:
    return (
        Column("\nPID", lambda held, _: str(held.pid), _PID_CELLS),
        Column("\n COMM", lambda held, cells: " " + _name(names, held, cells - 1), _NAME_CELLS,
               right=False),
        Column("FREED\nBY EXIT", lambda held, _: size(held.freed_by_exit)),
        Column("IN\nCOMMON", lambda held, _: size(held.common)),
        Column("WITH\nOTHERS", lambda held, _: size(held.with_others)),
        Column("\nFILES", lambda held, _: size(held.files)),
        Column("\nSWAPPED", lambda held, _: size(held.swapped)),
    )  # fmt: skip


def _matrix(
    now: Sharing, rows: list[Holder], names: Mapping[int, str], width: int
) -> list[RenderableType]:
    """What each two of the first processes have in common, as many as fit."""
    others = rows[: max(0, (width - _PID_CELLS - _NAME_CELLS) // _CELLS)]
    if len(now.holders) < 2 or not others:
        return []

    def common(other: Holder) -> Column[Holder]:
        def text(held: Holder, _: int) -> str:
            pids = min(held.pid, other.pid), max(held.pid, other.pid)
            return "" if held is other else size(now.pairs[pids])

        return Column(str(other.pid), text, _CELLS)

    columns = (
        Column("PID", lambda held, _: str(held.pid), _PID_CELLS),
        Column(" IN COMMON WITH", lambda held, cells: " " + _name(names, held, cells - 1),
               _NAME_CELLS, right=False),
        *map(common, others),
    )  # fmt: skip
    return [Text(), table(columns, rows)]


def _mappings(
    shares: Sequence[MappingShare], rows: list[Holder], names: Mapping[int, str], width: int
) -> list[RenderableType]:
    """The mappings of the first processes with most memory, in place of the pairs."""
    place = {held.pid: at for at, held in enumerate(rows)}
    shown = [each for each in shares if each.pid in place]
    shown.sort(key=lambda each: (place[each.pid], -each.common - each.freed_by_exit, each.name))
    first: list[MappingShare] = []
    for _, those in groupby(shown, lambda each: each.pid):
        first += [*those][:_MAPPINGS]
    columns: tuple[Column[MappingShare], ...] = (
        Column("\nPID", lambda each, _: str(each.pid), _PID_CELLS),
        Column("\n MAPPING", lambda each, cells: " " + fit(printable(each.name), cells - 1), 0,
               right=False),
        Column("FREED\nBY EXIT", lambda each, _: size(each.freed_by_exit)),
        Column("IN\nCOMMON", lambda each, _: size(each.common)),
        Column("WITH\nOTHERS", lambda each, _: size(each.with_others)),
    )  # fmt: skip
    return [Text(), table(fitted(columns, width, ()), first)]


def _name(names: Mapping[int, str], held: Holder, cells: int) -> str:
    return fit(printable(names[held.pid]), cells)


def _footer(now: Sharing, shown: int) -> str:
    groups = [
        f"{size(held)} mapped by {number}" if number == 1 else f"{size(held)} by {number}"
        for number, held in enumerate(now.by_holders, 1)
        if held
    ]
    changed = MISSING if now.changed is None else f"{now.changed:,}"
    parts = [
        f"{shown} of {len(now.holders)} processes shown; {size(now.anonymous)} of anonymous memory"
        f", each page once: {', '.join(groups) or 'none'}",
        f"read in {now.seconds:.2f} s; pages that changed meanwhile: {changed}",
    ]
    if now.unread:
        parts.append(f"sparse mappings that were not read: {size(now.unread)}")
    if now.ended:
        parts.append(f"ended meanwhile: {', '.join(map(str, now.ended))}")
    return "\n".join(parts)
