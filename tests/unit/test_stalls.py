"""The stall budget of parents: its sums, `cowtrace latency`, and question 8 of a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made_recordings
from hypothesis import given
from hypothesis import strategies as st
from snapshots import detail, fork, process, snapshot, text

from cowtrace.analysis.questions import answers
from cowtrace.analysis.questions.answer import Measure, Quality
from cowtrace.analysis.stalls import percentile, stalls
from cowtrace.machine import detail_objects
from cowtrace.model import FaultKind, ForkGeneration, Snapshot
from cowtrace.recording import Recording
from cowtrace.terminal.latency import view

MS = 1_000_000
NOW = replace(
    snapshot(process(1, "redis"), process(2, "child"), process(7, "idle"), at=2.0),
    generations=(
        fork(1, 1, 2, fork_ns=3 * MS, first_second_ns=20 * MS, page_table_bytes=8192, lock_ns=MS),
        fork(2, 1, 3, fork_ns=5 * MS, first_second_ns=0, page_table_bytes=4096, lock_ns=2 * MS),
    ),
    details=(
        detail(1, FaultKind.COPIED, generation=1, latency=11, ns=30 * MS),
        detail(1, FaultKind.REUSED, generation=2, latency=9, ns=2 * MS),
        detail(1, FaultKind.ZERO_FILLED, generation=2, latency=9, ns=999 * MS),
        detail(1, FaultKind.COPIED, generation=None, latency=9, ns=999 * MS),
        detail(2, FaultKind.COPIED, generation=1, latency=12, ns=999 * MS),
    ),
)


def test_a_parents_budget() -> None:
    (stall,) = stalls(NOW)
    assert (stall.process.pid, stall.forks) == (1, 2)
    assert (stall.fork_ns, stall.copied_ns, stall.reused_ns) == (8 * MS, 30 * MS, 2 * MS)
    assert (stall.stall_ns, stall.share) == (40 * MS, 0.02)
    assert stall.first_seconds == (5 * MS, 23 * MS)


def test_a_part_that_is_not_known_is_missing_and_so_is_the_sum() -> None:
    first, second = NOW.generations
    (stall,) = stalls(replace(NOW, generations=(first, replace(second, fork_ns=None))))
    assert (stall.fork_ns, stall.stall_ns, stall.share) == (None, None, None)
    assert stall.copied_ns == 30 * MS
    assert stall.first_seconds == (23 * MS,)
    untimed = tuple(replace(each, first_second_ns=None) for each in NOW.generations)
    (stall,) = stalls(replace(NOW, generations=untimed, details=()))
    assert (stall.fork_ns, stall.copied_ns, stall.reused_ns) == (8 * MS, None, None)
    assert (stall.stall_ns, stall.share, stall.first_seconds) == (None, None, ())


def test_what_was_timed_and_did_not_happen_is_0() -> None:
    (stall,) = stalls(replace(NOW, details=()))
    assert (stall.copied_ns, stall.reused_ns, stall.stall_ns) == (0, 0, 8 * MS)


def test_the_lines_below_the_histograms() -> None:
    lines = text(view(NOW)).splitlines()
    at = next(at for at, line in enumerate(lines) if "PID COMM" in line)
    assert lines[at - 1 : at + 3] == [
        "                                    IN     IN IN RE-    ALL OF THE  1ST S  1ST S",
        "    PID COMM              FORKS   FORK COPIES  MARKS STALLS   TIME    P50    P99",
        "      1 redis                 2 8.00ms 30.0ms 2.00ms 40.0ms   2.0% 5.00ms 23.0ms",
        "",
    ]


def test_in_json() -> None:
    (found,) = detail_objects.stalls(stalls(NOW))["stalls"]
    assert found == {
        **{"pid": 1, "comm": "redis", "forks": 2},
        **{"fork_ns": 8 * MS, "copied_ns": 30 * MS, "reused_ns": 2 * MS, "stall_ns": 40 * MS},
        **{"share": 0.02, "first_second_p50_ns": 5 * MS, "first_second_p99_ns": 23 * MS},
    }


@given(st.lists(st.integers(0, 1 << 40), min_size=1).map(sorted), st.floats(0, 1))
def test_a_percentile_is_one_of_the_times(ordered: list[int], share: float) -> None:
    found = percentile(ordered, share)
    assert found in ordered
    assert sum(each <= found for each in ordered) >= share * len(ordered) - 1e-9
    assert percentile(ordered, 1) == ordered[-1]
    assert percentile([], share) is None


def asked(path: Path, now: Snapshot, plan: str = "kprobe") -> dict[str, Measure]:
    """The measures of question 8."""
    found: Recording = made_recordings.make(path, plan=plan)
    last = replace(now, plan=plan, completeness=found.last.completeness)
    answer = answers(replace(found, last=last))[7]
    assert answer.number == 8
    return {measure.name: measure for measure in answer.measures}


def test_question_8(tmp_path: Path) -> None:
    found = asked(tmp_path / "f", NOW)
    values = {name: measure.value for name, measure in found.items()}
    assert (values["forks, in all"], values["fork, p50"], values["fork, p99"]) == (
        8 * MS, 3 * MS, 5 * MS,
    )  # fmt: skip
    assert values["fork, mmap lock held, p99"] == 2 * MS
    assert values["page tables that forks made"] == 12288
    assert values["parent, to 1 s after a fork, p99"] == 23 * MS
    assert values["most of any parent's time"] == 0.02
    assert found["forks, in all"].quality is Quality.EXACT
    assert asked(tmp_path / "g", NOW, "tracepoint")["fork, p50"].quality is Quality.LOWER_BOUND


def test_question_8_without_times(tmp_path: Path) -> None:
    def quality(*forks: ForkGeneration) -> Quality:
        measure = asked(
            tmp_path / str(len(list(tmp_path.iterdir()))), replace(NOW, generations=forks)
        )
        assert measure["forks, in all"].value is None
        return measure["forks, in all"].quality

    assert quality(fork()) is Quality.NOT_RECORDED  # by an older cowtrace
    assert quality(fork(page_table_bytes=4096)) is Quality.NOT_SEEN
    assert "forks, in all" not in asked(tmp_path / "none", replace(NOW, generations=()))
