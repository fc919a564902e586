"""Render what is to come of each fork in 80 columns, and the memory that is left for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from cowtrace.analysis.fits import Outlook
from cowtrace.analysis.forecast import Forecast
from cowtrace.analysis.forks import ForkRow, TreeLine, tree
from cowtrace.model import Place, Snapshot
from cowtrace.numbers import MISSING, age, size
from cowtrace.terminal.columns import Column, fitted, table
from cowtrace.terminal.footer import containers, trust
from cowtrace.terminal.forks import process_cell
from cowtrace.terminal.screen import View
from cowtrace.text import fit, fit_end, printable

_NONE = "no fork since the start; those from before it are not known"
_MEANING = "TOTAL: copied by the end of the child; between LOW and HIGH in 8 of 10 forks"
_DISPENSABLE = ("\nAGE", "LEVELS\nOFF IN", "TOTAL\nLOW", "ENDS\nIN")
_MOST_PLACES = 3  # cgroups, and parents with earlier forks, that get a line
_NEVER_SECONDS = 1e9


def view(
    now: Snapshot,
    rows: tuple[ForkRow, ...],
    outlooks: Mapping[int, Outlook],
    earlier: Mapping[int, tuple[int, ...]],
    limit: int,
    places: Mapping[int, Place],
) -> View:
    """The first `limit` of the rows, as a tree.

    `outlooks`: by number of the fork; `earlier`: what ended forks copied, by PID of the parent.
    """

    def of_fork(text: Callable[[ForkRow, Outlook], str]) -> Callable[[TreeLine, int], str]:
        def cell(line: TreeLine, _: int) -> str:
            outlook = outlooks.get(line.row.generation.number) if line.row else None
            return text(line.row, outlook) if line.row and outlook else ""

        return cell

    def total(part: Callable[[Forecast], int]) -> Callable[[TreeLine, int], str]:
        return of_fork(
            lambda _, to_come: size(part(to_come.forecast) if to_come.forecast else None)
        )

    columns: tuple[Column[TreeLine], ...] = (
        Column("\nPROCESS", process_cell, 0, right=False),
        Column("\nAGE", of_fork(lambda row, _: age(row.seconds)), 7),
        Column("\nCOPIED", of_fork(lambda row, _: size(row.generation.copied_bytes))),
        Column("TOTAL\nLOW", total(lambda forecast: forecast.low_bytes)),
        Column("TOTAL\nEXPECTED", total(lambda forecast: forecast.expected_bytes), 9),
        Column("TOTAL\nHIGH", total(lambda forecast: forecast.high_bytes)),
        Column("ENDS\nIN", of_fork(lambda row, one: _ends(row, one.forecast)), 7),
        Column("LEVELS\nOFF IN", of_fork(lambda row, one: _levels_off(row, one.forecast)), 7),
        Column("\nFITS", of_fork(lambda _, one: one.fits.text if one.fits else MISSING), 6),
    )

    def draw(shown: int, width: int) -> RenderableType:
        drawn = tree(rows[:shown])
        lines = table(
            fitted(columns, width, _DISPENSABLE, least=14),
            drawn,
            lambda line: bool(line.row and line.row.generation.ended_ns),
        )
        inside = containers((line.pid for line in drawn), places, width)
        living = [row.generation for row in rows if row.generation.ended_ns is None]
        text = f"{min(shown, len(rows)):,} of {len(rows):,} forks, {len(living):,} alive"
        notes = [_MEANING if rows else _NONE, *_left(outlooks), *_earlier(earlier)]
        dim = [Text(fit(note, width), "dim") for note in notes]
        return Group(lines, *inside, *dim, trust(now, text, exited=len(living) < len(rows)))

    return View(min(limit, len(rows)), draw)


def _ends(row: ForkRow, forecast: Forecast | None) -> str:
    if row.generation.ended_ns is not None or not forecast or forecast.ends_in_seconds is None:
        return MISSING
    return age(forecast.ends_in_seconds)


def _levels_off(row: ForkRow, forecast: Forecast | None) -> str:
    seconds = forecast.levels_off_in_seconds if forecast else None
    if row.generation.ended_ns is not None or seconds is None:
        return MISSING
    return age(seconds) if math.isfinite(seconds) and seconds < _NEVER_SECONDS else MISSING


def _left(outlooks: Mapping[int, Outlook]) -> list[str]:
    """A line for the machine, and for each cgroup with a limit."""
    lines: dict[str, None] = {}
    for one in outlooks.values():
        machine, group = one.left.machine, one.left.cgroup
        swap = f", swap {size(machine.swap_bytes)}" if machine.swap_bytes else ""
        lines[f"left: {size(machine.available_bytes)} of the machine{swap}"] = None
        if group.place is None:
            continue
        words = [
            f"{size(each)} {what}"
            for each, what in (
                (group.unthrottled_bytes, "to memory.high"),
                (group.available_bytes, "to memory.max"),
                (group.swap_bytes, "swap"),
            )
            if each is not None
        ]
        lines[f"left: {', '.join(words)} of {fit_end(printable(group.place), 30)}"] = None
    return [*lines][: 1 + _MOST_PLACES]


def _earlier(earlier: Mapping[int, tuple[int, ...]]) -> list[str]:
    """What to leave free for the next fork."""
    return [
        f"leave {size(max(totals))} free for the next fork of {parent}: "
        f"{', '.join(map(size, totals))} so far"
        for parent, totals in earlier.items()
        if totals
    ][:_MOST_PLACES]
