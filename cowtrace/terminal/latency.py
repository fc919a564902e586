"""Render fault times: a line for each kind and side, and their histograms."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.analysis.latency import Timing, timings
from cowtrace.model import Snapshot
from cowtrace.numbers import MISSING, WIDTH, brief, count
from cowtrace.terminal.footer import trust
from cowtrace.terminal.screen import View

_BARS = "▁▂▃▄▅▆▇█"
_HISTOGRAMS = 7  # beside each other in 80 columns
_EXPLAINED = "other: on neither side of a fork since the start whose child lives"


def view(now: Snapshot) -> View:
    """What `cowtrace latency` shows."""
    found = timings(now)
    buckets = _span(found)

    def draw(rows: int, width: int) -> RenderableType:
        parts: list[RenderableType] = [_lines(found)]
        # A screen that is too low shows the lines alone, rather than half a histogram.
        if found and rows >= len(buckets) + len(found):
            parts += [Text(), _histograms(found, buckets), Text()]
        faults = sum(timing.faults for timing in found)
        shown = f"{faults:,} faults timed"
        return Group(*parts, Text(_EXPLAINED, "dim"), trust(now, shown, of_details=True))

    return View(len(buckets) + len(found), draw)


def summary(now: Snapshot) -> RenderableType:
    """What --latency adds to another table."""
    return Group(_lines(timings(now)), Text(_EXPLAINED, "dim"))


def _lines(found: tuple[Timing, ...]) -> Table:
    """One line for each kind and side, with the shape of its histogram."""
    table = Table(box=None, padding=0, pad_edge=False, header_style="bold", collapse_padding=True)
    table.add_column("KIND", width=13, no_wrap=True)
    table.add_column("SIDE", width=7, no_wrap=True)
    for header in ("FAULTS", "TOTAL", "MEAN", "P50", "P99"):
        table.add_column(header, justify="right", width=WIDTH + 1, no_wrap=True)
    buckets = _span(found)
    ends = f"{brief(1 << buckets[0])} to {brief(2 << buckets[-1])}" if buckets else ""
    table.add_column(f" {ends}", no_wrap=True, overflow="crop")
    for timing in found:
        table.add_row(
            timing.kind.label,
            timing.side,
            count(timing.faults),
            brief(timing.ns),
            brief(timing.ns / timing.faults),
            _below(timing.percentile(0.5)),
            _below(timing.percentile(0.99)),
            " " + _shape(timing, buckets),
        )
    return table


def _histograms(found: tuple[Timing, ...], buckets: range) -> RenderableType:
    table = Table(box=None, padding=0, pad_edge=False, header_style="bold", collapse_padding=True)
    table.add_column("\nFROM", justify="right", width=WIDTH, no_wrap=True)
    table.add_column("\nBELOW", justify="right", width=WIDTH + 1, no_wrap=True)
    shown = sorted(found, key=lambda timing: -timing.faults)[:_HISTOGRAMS]
    shown = [timing for timing in found if timing in shown]
    for timing in shown:
        kind = timing.kind.label.split("-")[0].upper()[:WIDTH]
        side = timing.side.upper()
        table.add_column(f"{kind}\n{side}", justify="right", width=WIDTH + 1, no_wrap=True)
    for bucket in buckets:
        cells = (count(dict(timing.buckets).get(bucket, 0)) for timing in shown)
        table.add_row(brief(1 << bucket), brief(2 << bucket), *cells)
    return table


def _span(found: tuple[Timing, ...]) -> range:
    """All buckets from the first to the last that holds a fault."""
    used = [bucket for timing in found for bucket, _ in timing.buckets]
    return range(min(used), max(used) + 1) if used else range(0)


def _shape(timing: Timing, buckets: range) -> str:
    held = dict(timing.buckets)
    most = max(held.values())
    heights = (-(-held.get(bucket, 0) * len(_BARS) // most) for bucket in buckets)
    return "".join(_BARS[height - 1] if height else " " for height in heights)


def _below(bucket: int | None) -> str:
    return MISSING if bucket is None else f"<{brief(2 << bucket)}"
