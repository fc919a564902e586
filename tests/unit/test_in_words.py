"""The plain sentences above the answers, and the pace of the copying."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from made_recordings import make
from snapshots import PAGE, SECOND, calls, detail, fork, mapping, process, row, snapshot

from cowtrace.analysis.questions import answers, in_words
from cowtrace.analysis.questions.speed import pace
from cowtrace.model import FaultKind, MappingType
from cowtrace.recording import Point, Recording


def paced(made: Recording, *pages: int) -> Recording:
    """So many pages copied in each second."""
    times = tuple((7 + at) * SECOND for at in range(1, len(pages) + 1))
    return replace(
        made,
        last=replace(made.last, at_ns=times[-1]),
        times=times,
        points=tuple(
            Point(at, 0, FaultKind.COPIED, n, n * PAGE)
            for at, n in zip(times, pages, strict=True)
            if n
        ),
    )


def test_by_whom_where_and_by_which_code(tmp_path: Path) -> None:
    assert in_words(answers(make(tmp_path / "f"))) == (
        "The largest parts by side: parents, after a fork (67.6%); by mapping: [heap] (67.6%); "
        "by code: garbage collection (about 67.6%). Not levelling off: the last quarter brought "
        "25.0% of the copies. At most 14.4 MiB may still be copied."
    )


def test_a_mapping_can_be_called_like_a_cgroup(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    box = mapping("in box", MappingType.FILE)
    details = tuple(replace(each, mapping=box) for each in made.last.details)
    found = answers(replace(made, last=replace(made.last, details=details)))
    assert "by mapping: in box (100%)" in in_words(found)


def test_what_was_not_recorded_is_not_spoken_of(tmp_path: Path) -> None:
    found = in_words(answers(make(tmp_path / "f", details=frozenset())))
    assert found == "Not levelling off: the last quarter brought 25.0% of the copies."


def test_a_phase_of_little_is_not_what_is_named(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    rows = (
        detail(1, faults=397, user_stack=calls("fill", "main")),
        detail(1, faults=11, user_stack=calls("malloc", "main")),
    )
    found = in_words(answers(replace(made, last=replace(made.last, samples=rows))))
    assert "by code: fill (python3.13) (about 97.3%)" in found


def test_a_function_can_be_called_like_a_phase(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    rows = (
        detail(1, faults=23, user_stack=calls("fill", "main")),
        detail(1, faults=23, user_stack=calls("phase: shutdown", "main")),
    )
    found = in_words(answers(replace(made, last=replace(made.last, samples=rows))))
    assert "by code: fill (python3.13)" in found


def test_the_sum_of_the_others_is_no_mapping(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    rows = tuple(detail(1, faults=1, mapping=mapping(f"m{at}")) for at in range(23))
    found = in_words(answers(replace(made, last=replace(made.last, details=rows))))
    assert "by mapping: [anon:m0] (0.2%)" in found


def test_nothing_copied(tmp_path: Path) -> None:
    now = snapshot(process(1, "idle", row(FaultKind.REUSED, 23)), at=12.0)
    idle = replace(make(tmp_path / "f"), points=(), last=replace(now, generations=(fork(),)))
    assert in_words(answers(idle)) == "Nothing was copied."
    assert pace(idle) is None


def test_the_pace_rises_from_0_to_the_highest(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    assert pace(paced(made, 0, 1, 35, 70, 0)) == "▁▂▅█▁ 0 to 280 KiB/s, a block: 1.00 s"
    assert pace(paced(made, 7)) is None  # one interval tells no pace
    # What a damaged file says was taken back.
    assert (pace(paced(made, 70, -35, 35)) or "").startswith("█▁▅ 0 to ")
    for pages in (1, 3, 7, 23, 1 << 40):  # equal rates must not round above the highest
        assert (pace(paced(made, *[pages] * 9)) or "").startswith("█" * 9 + " ")


def test_a_long_pace_is_averaged_to_40_cells(tmp_path: Path) -> None:
    drawn = pace(paced(make(tmp_path / "f"), *[0] * 50, *[35] * 49, 70)) or ""
    assert len(drawn.split()[0]) == 40
    assert drawn.startswith("▁" * 20)
    assert drawn.split()[0].endswith("█")


def test_intervals_of_unequal_length(tmp_path: Path) -> None:
    """The first took three seconds: its rate fills three quarters of the time."""
    made = paced(make(tmp_path / "f"), 30, 20)
    late = (10 * SECOND, 11 * SECOND)
    points = tuple(p._replace(at_ns=at) for p, at in zip(made.points, late, strict=True))
    last = replace(made.last, at_ns=late[-1])
    assert (
        pace(replace(made, times=late, points=points, last=last))
        == "▆█ 0 to 60.0 KiB/s, a block: 2.00 s"
    )


def test_what_may_come_stands_beside_the_memory_that_is_left(tmp_path: Path) -> None:
    told = in_words(answers(make(tmp_path / "f", available=(3 << 30) + 12)))
    assert told.endswith(" may still be copied; 3.00 GiB of memory is available.")
