"""analysis/latency.py and terminal/latency.py: histograms by kind and side, and their tables."""

from __future__ import annotations

import io
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from snapshots import detail, fork, process, row, snapshot, text

from cowtrace.analysis.latency import Timing, timings
from cowtrace.analysis.processes import Frame, rows
from cowtrace.model import DetailRow, FaultKind
from cowtrace.terminal.latency import view
from cowtrace.terminal.screen import fitted


def timed(
    pid: int, kind: FaultKind, faults: int, latency: int, generation: int | None = 1
) -> DetailRow:
    return detail(
        pid, kind, faults, latency=latency, ns=faults * (3 << latency) // 2, generation=generation
    )


NOW = replace(
    snapshot(process(1, "redis", row(FaultKind.COPIED, 503)), process(2, "child"), at=2.0),
    generations=(fork(1, 1, 2), fork(2, 2, 3)),
    details=(
        timed(1, FaultKind.COPIED, 490, 11),
        timed(1, FaultKind.COPIED, 13, 14),
        timed(2, FaultKind.COPIED, 23, 12),
        timed(2, FaultKind.REUSED, 7, 9, generation=2),  # it has forked itself
        timed(9, FaultKind.REUSED, 5, 9, generation=None),
        detail(1, FaultKind.COPIED, 1000, generation=1),  # not timed
    ),
)


def test_sides() -> None:
    assert [(t.kind, t.side, t.faults, t.buckets) for t in timings(NOW)] == [
        (FaultKind.COPIED, "parent", 503, ((11, 490), (14, 13))),
        (FaultKind.COPIED, "child", 23, ((12, 23),)),
        (FaultKind.REUSED, "parent", 7, ((9, 7),)),
        (FaultKind.REUSED, "other", 5, ((9, 5),)),
    ]


def test_flushes_of_the_tlb_are_summed_or_missing() -> None:
    details = [replace(row, tlb_flush_ns=100 * row.faults) for row in NOW.details]
    flushed = replace(NOW, details=tuple(details))
    assert [t.tlb_flush_ns for t in timings(NOW)] == [None] * 4
    assert [t.tlb_flush_ns for t in timings(flushed)] == [50_300, 2_300, 700, 500]
    lines = text(view(flushed)).splitlines()
    assert lines[0] == (
        "KIND         SIDE     FAULTS   TOTAL    MEAN FLUSH     P50     P99 512ns-32.8µs"
    )
    assert lines[1].startswith("copied       parent      503  1.82ms  3.63µs  2.8% <4.10µs")
    assert "FLUSH" not in text(view(NOW))


def test_percentiles_are_the_bucket_of_that_fault() -> None:
    timing = Timing(FaultKind.COPIED, "parent", ((9, 50), (10, 49), (20, 1)), 0)
    found = [timing.percentile(share) for share in (0.01, 0.5, 0.51, 0.99, 1)]
    assert found == [9, 9, 10, 10, 20]
    assert Timing(FaultKind.COPIED, "parent", (), 0).percentile(0.5) is None


@given(st.dictionaries(st.integers(0, 63), st.integers(1, 10**9), min_size=1), st.floats(0, 1))
def test_no_percentile_is_outside(buckets: dict[int, int], share: float) -> None:
    timing = Timing(FaultKind.COPIED, "parent", tuple(sorted(buckets.items())), 0)
    assert timing.percentile(share) in buckets
    assert timing.percentile(1) == max(buckets)


def test_lines_and_histograms() -> None:
    assert (
        text(view(NOW))
        == """\
KIND         SIDE     FAULTS   TOTAL    MEAN     P50     P99 512ns-32.8µs
copied       parent      503  1.82ms  3.63µs <4.10µs <32.8µs   █  ▁
copied       child        23   141µs  6.14µs <8.19µs <8.19µs    █
reused       parent        7  5.38µs   768ns <1.02µs <1.02µs █
reused       other         5  3.84µs   768ns <1.02µs <1.02µs █

                 COPIED  COPIED  REUSED  REUSED
   FROM   BELOW  PARENT   CHILD  PARENT   OTHER
  512ns  1.02µs       0       0       7       5
 1.02µs  2.05µs       0       0       0       0
 2.05µs  4.10µs     490       0       0       0
 4.10µs  8.19µs       0      23       0       0
 8.19µs  16.4µs       0       0       0       0
 16.4µs  32.8µs      13       0       0       0

                                    IN     IN IN RE-    ALL OF THE  1ST S  1ST S
    PID COMM              FORKS   FORK COPIES  MARKS STALLS   TIME    P50    P99
      1 redis                 1      -      -      -      -      -      -      -
      2 child                 1      -      -      -      -      -      -      -

other: on neither side of a fork since the start whose child lives
plan kprobe, kernel 6.12.43+deb13-cloud-amd64, 2.0 s: 538 faults timed
unclassified 0, lost 0
"""
    )


def test_what_latency_adds_to_a_table() -> None:
    shown = text(Frame(NOW, rows(NOW, None), 2, latency=True)).splitlines()
    assert shown[0].endswith("BYTES      /S")
    assert shown[3].startswith("KIND")
    assert shown[4].startswith("copied       parent      503")
    assert shown[-1] == "unclassified 0, lost 0"


def test_nothing_timed_yet() -> None:
    assert "0 faults timed" in text(view(snapshot()))


def test_a_low_screen_shows_the_lines_alone() -> None:
    terminal = Console(file=io.StringIO(), width=80)
    lines = terminal.render_lines(fitted(view(NOW), terminal, 10))
    assert len(lines) <= 10
