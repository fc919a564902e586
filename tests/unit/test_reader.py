"""Items of the maps -> processes, what was lost, and who has ended."""

from __future__ import annotations

from dataclasses import replace

from cowtrace.model import FaultKind, Origin, PageFaults, Source
from cowtrace.tracer.abi import LOSSES
from cowtrace.tracer.ledger import Ledger
from cowtrace.tracer.reader import RawCounts, completeness, processes, signed

NONE: frozenset[FaultKind] = frozenset()
RAW = RawCounts(
    sums={
        (7, 0, FaultKind.COPIED, Source.ANON, Origin.USER, 0): (23, 23 * 4096),
        (7, 9, FaultKind.COPIED, Source.ANON, Origin.REMOTE, 0): (2, 2 * 4096),
        (7, 0, FaultKind.REUSED, Source.ANON, Origin.USER, 0): (5, 0),
        (7, 0, FaultKind.SHARED, Source.FILE, Origin.USER, 0): (0, 0),
    },
    page_faults={7: (40, 3, 30), 8: (1, 0, 0)},
    processes={7: (1, 0, 123, b"redis\0junk"), 9: (7, 0, 124, b"\xff\x1b[31m")},
    losses=(0,) * (len(LOSSES) + 1),
)


def test_rows_are_typed_and_summed() -> None:
    redis, other, named = processes(RAW, NONE)
    assert (redis.pid, redis.comm, redis.parent, redis.exited) == (7, "redis", 1, False)
    assert redis.count(FaultKind.COPIED) == 25
    assert redis.copied_bytes == 25 * 4096
    assert redis.faults == 30 == sum(redis.count(kind) or 0 for kind in FaultKind)
    assert redis.page_faults == PageFaults(user=40, kernel=3, write_protect=30)
    assert [row.actor for row in redis.rows if row.origin is Origin.REMOTE] == [9]
    assert len(redis.rows) == 3  # a sum of 0 is no row
    assert (other.pid, other.comm, other.rows) == (8, "", ())
    assert named.page_faults == PageFaults(0, 0, 0)
    assert processes(replace(RAW, page_faults=None), NONE)[0].page_faults is None  # not 0
    assert named.comm == "\\xff\x1b[31m"  # hostile still: views.text makes it printable


def test_what_a_plan_cannot_see_is_missing_not_0() -> None:
    redis = processes(RAW, frozenset({FaultKind.SHARED}))[0]
    assert redis.count(FaultKind.SHARED) is None
    assert redis.count(FaultKind.COPIED) == 25


def test_a_take_back_read_before_its_count_is_negative() -> None:
    assert signed((1 << 64) - 2) == -2
    assert signed(23) == 23


def test_losses_count_from_the_baseline() -> None:
    then = [0] * (len(LOSSES) + 1)
    now = [0] * (len(LOSSES) + 1)
    then[LOSSES.index("entry missed")] = 4  # before the last probe was attached
    now[LOSSES.index("entry missed")] = 4
    now[LOSSES.index("sums full")] = 3
    now[LOSSES.index("checked")] = 100
    found = completeness(now, then)
    assert found.lost == 3
    assert found.detail == (("sums full", 3),)


def test_a_page_fault_total_lost_is_shown_but_is_no_lost_fault() -> None:
    now = [0] * (len(LOSSES) + 1)
    now[LOSSES.index("page faults full")] = 2
    found = completeness(now, [0] * (len(LOSSES) + 1))
    assert found.lost == 0
    assert found.detail == (("page faults full", 2),)


def test_an_ended_process_leaves_the_maps_after_one_more_reading() -> None:
    forgotten: list[RawCounts] = []
    ledger = Ledger(NONE)
    assert ledger.fold(RAW, forgotten.append) is RAW

    ended = replace(RAW, processes={**RAW.processes, 7: (1, 1, 123, b"redis")})
    assert ledger.fold(ended, forgotten.append) is ended  # its last faults may still come
    assert not forgotten

    key = (7, 0, FaultKind.COPIED, Source.ANON, Origin.KERNEL, 0)
    last = replace(ended, sums={**ended.sums, key: (1, 4096)})
    left = ledger.fold(last, forgotten.append)
    assert {k[0] for k in left.sums} == set()
    assert left.processes.keys() == {9}
    assert left.page_faults == {8: (1, 0, 0)}
    assert [(p.pid, p.exited, p.count(FaultKind.COPIED)) for p in ledger.ended] == [(7, True, 26)]
    assert forgotten[0].sums == last.sums
    assert forgotten[0].processes.keys() == {7}


def test_a_program_passed_over_is_a_lost_fault() -> None:
    now = [0] * len(LOSSES) + [7]
    found = completeness(now, [0] * len(LOSSES) + [2])
    assert found.lost == 5
    assert found.detail == (("program busy", 5),)
