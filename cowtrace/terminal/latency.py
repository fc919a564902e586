"""Render fault times: a line for each kind and side, and their histograms."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.analysis.latency import Timing, timings
from cowtrace.analysis.stalls import Stall, percentile, stalls
from cowtrace.model import Snapshot
from cowtrace.numbers import MISSING, WIDTH, brief, count, percent
from cowtrace.terminal.columns import Column, pid_and_name, table
from cowtrace.terminal.footer import trust
from cowtrace.terminal.screen import View

_BARS = "▁▂▃▄▅▆▇█"
_HISTOGRAMS = 7  # beside each other in 80 columns
_STALLS = 5  # parents
_EXPLAINED = "other: on neither side of a fork since the start whose child lives"


def view(now: Snapshot) -> View:
    """What `cowtrace latency` shows."""
    found = timings(now)
    buckets = _span(found)
    parents = stalls(now)
    below = min(len(parents), _STALLS) + 3 if parents else 0  # its lines

    def draw(rows: int, width: int) -> RenderableType:
        parts: list[RenderableType] = [_lines(found)]
        # A screen that is too low shows the lines alone, rather than half a histogram.
        if found and rows >= len(buckets) + len(found) + below:
            parts += [Text(), _histograms(found, buckets)]
        if parents and rows >= len(found) + below:
            parts += [Text(), _stall_lines(parents[:_STALLS])]
        if len(parts) > 1:
            parts.append(Text())
        shown = f"{sum(timing.faults for timing in found):,} faults timed"
        return Group(*parts, Text(_EXPLAINED, "dim"), trust(now, shown))

    return View(len(buckets) + len(found) + below, draw)


def summary(now: Snapshot) -> RenderableType:
    """What --latency adds to another table."""
    return Group(_lines(timings(now)), Text(_EXPLAINED, "dim"))


def _lines(found: tuple[Timing, ...]) -> Table:
    """One line for each kind and side, with the shape of its histogram."""
    buckets = _span(found)
    ends = f"{brief(1 << buckets[0])}-{brief(2 << buckets[-1])}" if buckets else ""
    columns: tuple[Column[Timing], ...] = (
        Column("KIND", lambda timing, _: timing.kind.label, 13, right=False),
        Column("SIDE", lambda timing, _: timing.side, 7, right=False),
        Column("FAULTS", lambda timing, _: count(timing.faults)),
        Column("TOTAL", lambda timing, _: brief(timing.ns)),
        Column("MEAN", lambda timing, _: brief(timing.ns / timing.faults)),
        Column("P50", lambda timing, _: _below(timing.percentile(0.5))),
        Column("P99", lambda timing, _: _below(timing.percentile(0.99))),
        Column(f" {ends}", lambda timing, _: " " + _shape(timing, buckets), 0, right=False),
    )
    if any(timing.tlb_flush_ns is not None for timing in found):
        flush: Column[Timing] = Column("FLUSH", lambda timing, _: _flushing(timing), 6)
        columns = (*columns[:5], flush, *columns[5:])
    lines = table(columns, found)
    lines.columns[-1].width, lines.columns[-1].overflow = None, "crop"
    return lines


def _stall_lines(parents: Sequence[Stall]) -> Table:
    """One line for each process that forked."""
    columns: tuple[Column[Stall], ...] = (
        *pid_and_name(lambda stall: stall.process),
        Column("\nFORKS", lambda stall, _: count(stall.forks), 7),
        Column("IN\nFORK", lambda stall, _: brief(stall.fork_ns), 7),
        Column("IN\nCOPIES", lambda stall, _: brief(stall.copied_ns), 7),
        Column("IN RE-\nMARKS", lambda stall, _: brief(stall.reused_ns), 7),
        Column("ALL\nSTALLS", lambda stall, _: brief(stall.stall_ns), 7),
        Column("OF THE\nTIME", lambda stall, _: percent(stall.share), 7),
        Column("1ST S\nP50", lambda stall, _: brief(percentile(stall.first_seconds, 0.5)), 7),
        Column("1ST S\nP99", lambda stall, _: brief(percentile(stall.first_seconds, 0.99)), 7),
    )
    return table(columns, parents)


def _histograms(found: tuple[Timing, ...], buckets: range) -> Table:
    shown = sorted(found, key=lambda timing: -timing.faults)[:_HISTOGRAMS]
    columns: tuple[Column[int], ...] = (
        Column("\nFROM", lambda bucket, _: brief(1 << bucket), WIDTH),
        Column("\nBELOW", lambda bucket, _: brief(2 << bucket)),
        *(_histogram(timing) for timing in found if timing in shown),
    )
    return table(columns, buckets)


def _histogram(timing: Timing) -> Column[int]:
    kind = timing.kind.label.split("-")[0].upper()[:WIDTH]
    held = dict(timing.buckets)
    return Column(f"{kind}\n{timing.side.upper()}", lambda bucket, _: count(held.get(bucket, 0)))


def _span(found: tuple[Timing, ...]) -> range:
    """All buckets from the first to the last that holds a fault."""
    used = [bucket for timing in found for bucket, _ in timing.buckets]
    return range(min(used), max(used) + 1) if used else range(0)


def _shape(timing: Timing, buckets: range) -> str:
    held = dict(timing.buckets)
    most = max(held.values())
    heights = (-(-held.get(bucket, 0) * len(_BARS) // most) for bucket in buckets)
    return "".join(_BARS[height - 1] if height else " " for height in heights)


def _flushing(timing: Timing) -> str:
    """The share of these faults' time that was spent flushing the TLB."""
    return percent(None if timing.tlb_flush_ns is None else timing.tlb_flush_ns / timing.ns)


def _below(bucket: int | None) -> str:
    return MISSING if bucket is None else f"<{brief(2 << bucket)}"
