"""A Frame -> rich tables that fit 80 columns, and the footer that says how far to trust them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.model import Snapshot
from cowtrace.views.containers import containers
from cowtrace.views.numbers import WIDTH, count, size
from cowtrace.views.rows import Frame, Row, total
from cowtrace.views.text import COLUMNS, fit, printable

EXITED = "†"
_COMM = 16  # 15 bytes at most as the kernel keeps it, and the mark
_PID = 7  # pid_max is 4,194,304


@dataclass(frozen=True, slots=True)
class Number:
    """A column of one number of a row."""

    header: str
    text: Callable[[Row], str]


NUMBERS = (
    Number("FAULTS", lambda row: count(row.faults)),
    Number("COPIED", lambda row: count(row.copied)),
    Number("ZERO", lambda row: count(row.zero)),
    Number("REUSED", lambda row: count(row.reused)),
    Number("SHARED", lambda row: count(row.shared)),
    Number("BYTES", lambda row: size(row.bytes)),
    Number("/S", lambda row: size(row.rate)),
)


# What a terminal of less than 80 columns loses, in this order.
DISPENSABLE = ("SHARED", "ZERO", "REUSED", "FAULTS")


def render(frame: Frame, width: int = COLUMNS) -> RenderableType:
    """The whole view: table, details when asked for, footer."""
    parts: list[RenderableType] = [fault_table(frame, width)]
    if frame.verbose:
        from cowtrace.views.detail import details  # only then

        parts += details(frame)
    if frame.latency:
        from cowtrace.views.latency import summary

        parts += [Text(), summary(frame.snapshot), Text()]
    shown = (row.pid for row in frame.rows[: frame.limit] if row.pid is not None)
    return Group(*parts, *containers(shown, frame.places, width), footer(frame))


def fault_table(frame: Frame, width: int = COLUMNS) -> Table:
    """One row per process; the sums below them when the frame wants them."""
    columns = _fitting(width)
    table = grid(*(column.header for column in columns))
    for row in frame.rows[: frame.limit]:
        table.add_row(
            str(row.pid),
            name(row.comm, row.exited),
            *(column.text(row) for column in columns),
            style="dim" if row.exited else None,
        )
    if frame.total:
        sums = total(frame.snapshot, None)
        table.add_row("", sums.comm, *(column.text(sums) for column in columns), style="bold")
    return table


def footer(frame: Frame) -> Text:
    """Plan, kernel, how many are shown, and everything that was not counted or not seen."""
    shown = frame.rows[: frame.limit]
    return trust(
        frame.snapshot,
        f"{len(shown):,} of {frame.processes:,} processes",
        exited=any(row.exited for row in shown),
    )


def trust(
    snapshot: Snapshot, shown: str, *, exited: bool = False, of_details: bool = False
) -> Text:
    """How it was counted, what is shown, and how far it can be trusted.

    `of_details`: also name what concerns no count but its details: a stack that was not kept.
    """
    seconds = (snapshot.at_ns - snapshot.attached_ns) / 1e9
    text = Text(style="dim")
    text.append(
        f"plan {snapshot.plan}, kernel {printable(snapshot.kernel)}, {seconds:,.1f} s: {shown}\n"
    )
    done = snapshot.completeness
    text.append(f"unclassified {snapshot.unclassified:,}", _alarm(snapshot.unclassified))
    text.append(", ")
    text.append(f"lost {done.lost:,}", _alarm(done.lost))
    if done.detail and (done.lost or of_details):
        text.append(" (" + ", ".join(f"{cause} {lost:,}" for cause, lost in done.detail) + ")")
    if snapshot.unseen:
        unseen = ", ".join(kind.label for kind in sorted(snapshot.unseen))
        text.append(f"; - not seen by this plan: {unseen}")
    if exited:
        text.append(f"; {EXITED} exited")
    return text


def grid(*headers: str, width: int = WIDTH) -> Table:
    """An empty table of PID, COMM and right-aligned columns of one width."""
    table = Table(box=None, padding=0, pad_edge=False, header_style="bold", collapse_padding=True)
    table.add_column("PID", justify="right", width=_PID, no_wrap=True)
    table.add_column(" COMM", width=_COMM + 1, no_wrap=True)
    for header in headers:
        table.add_column(header, justify="right", width=width + 1, no_wrap=True)
    return table


def name(comm: str, exited: bool) -> Text:
    """A process's name as plain cells: markup and escapes in it do not act."""
    shown = fit(printable(comm), _COMM - 1)
    return Text(f" {shown}{EXITED if exited else ''}")


def _fitting(width: int) -> list[Number]:
    columns = list(NUMBERS)
    for header in DISPENSABLE:
        if _PID + 1 + _COMM + len(columns) * (WIDTH + 1) > width:
            columns = [column for column in columns if column.header != header]
    return columns


def _alarm(number: int) -> str:
    return "not dim bold red" if number else ""
