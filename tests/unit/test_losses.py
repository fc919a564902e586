"""What was lost, from two readings of the loss counters."""

from __future__ import annotations

import re

import pytest

from cowtrace import guide
from cowtrace.model import DETAIL_LOSSES, LOST, OUTSIDE_FAULTS
from cowtrace.tracer.abi import signed
from cowtrace.tracer.losses import COUNTERS, SKIPPED_PROGRAMS, completeness
from cowtrace.tracer.symbolizer import REFUSED
from cowtrace.tracer.symbolizer_process import DIED, LARGE, SLOW

NAMES = (*COUNTERS, "program busy", "entry skipped")
NAMING = (DIED, SLOW, LARGE, REFUSED)
NONE = [0] * len(NAMES)


def counters(**lost: int) -> list[int]:
    found = list(NONE)
    for name, count in lost.items():
        found[NAMES.index(name.replace("_", " "))] = count
    return found


def test_losses_count_from_the_baseline() -> None:
    then = counters(entry_missed=4)  # before the last probe was attached
    found = completeness(counters(entry_missed=4, sums_full=3, checked=100), then)
    assert found.lost == 3
    assert found.checked == 100
    assert found.detail == (("sums full", 3),)


@pytest.mark.parametrize("cause", sorted(DETAIL_LOSSES))
def test_a_loss_in_details_is_no_lost_fault(cause: str) -> None:
    found = completeness(counters(**{cause.replace(" ", "_"): 2}), NONE)
    assert (found.lost, found.lost_details) == (0, 2)
    assert found.detail == ((cause, 2),)


def test_every_counter_is_a_loss_of_one_kind_or_none() -> None:
    assert set(COUNTERS) - set(LOST) - DETAIL_LOSSES == {"pid reused", *OUTSIDE_FAULTS, "checked"}
    assert not DETAIL_LOSSES & set(LOST)


def test_a_skipped_program_is_a_lost_fault() -> None:
    found = completeness(counters(program_busy=7), counters(program_busy=2))
    assert found.lost == 5
    assert found.detail == (("program busy", 5),)


def test_a_skipped_entry_is_one_lost_fault_also_if_its_return_noticed() -> None:
    then = counters(entry_skipped=2, entry_missed=1)
    found = completeness(counters(entry_skipped=9, entry_missed=4), then)
    assert found.lost == 7
    assert found.detail == (("entry missed", 3), ("program busy", 4))


def test_an_entry_missed_for_another_cause_takes_nothing_away() -> None:
    found = completeness(counters(entry_skipped=1, entry_missed=3), NONE)
    assert found.lost == 3


def test_a_disagreement_with_wp_page_copy_is_a_lost_fault() -> None:
    found = completeness(counters(checked=23, check_failed=1), NONE)
    assert (found.checked, found.lost) == (22, 1)


def test_a_sum_modulo_2_to_the_64_may_be_negative() -> None:
    assert signed((1 << 64) - 2) == -2
    assert signed(2 * (1 << 64) - 2) == -2  # the sum of two CPUs' cells
    assert signed(23) == 23


@pytest.mark.parametrize("cause", LOST)
def test_each_way_to_miss_a_fault_is_lost(cause: str) -> None:
    assert completeness(counters(**{cause.replace(" ", "_"): 1}), NONE).lost == 1


def test_the_guide_says_what_each_cause_is_and_what_it_counts_as() -> None:
    table = guide.page("accuracy").text.partition("| cause |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([a-z ,]+) \| [^|]+ \| ?([a-z ]*) ?\|$", table, re.MULTILINE)
    said = {cause: kind.strip() for causes, kind in rows for cause in causes.split(", ")}
    counted = dict.fromkeys((*LOST, SKIPPED_PROGRAMS), "lost")
    counted |= dict.fromkeys(DETAIL_LOSSES, "lost in details")
    others = {*COUNTERS, *NAMING, "stacks folded", "details folded"} - {"checked"}
    assert said == dict.fromkeys(others, "") | counted
