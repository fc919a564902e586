"""What the answers to a recording, and to two of them, may not claim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from made_recordings import make
from snapshots import PAGE, calls, detail, fork, mapping, process, row

from cowtrace.analysis.questions import answers
from cowtrace.analysis.questions.causes import MOST, by_code, by_mapping
from cowtrace.analysis.questions.compare import Change, compare
from cowtrace.analysis.questions.sums import risk
from cowtrace.model import DetailRow, FaultKind, MappingType
from cowtrace.recording import Recording
from cowtrace.terminal.diff import diff

FUNCTIONS = 11  # more than are shown


def told(
    recording: Recording, *samples: DetailRow, details: tuple[DetailRow, ...] = ()
) -> Recording:
    """The recording with other samples and details."""
    return replace(recording, last=replace(recording.last, samples=samples, details=details))


def code(recording: Recording, small: int) -> Recording:
    """Eleven functions; the last, `small`, copied so many pages, the others 23 and more."""
    large = (
        detail(1, faults=23 + at, user_stack=calls(f"f{at}", "main")) for at in range(FUNCTIONS - 1)
    )
    return told(recording, *large, detail(1, faults=small, user_stack=calls("small", "main")))


def changes(before: Recording, after: Recording, number: int) -> dict[str, Change]:
    sections = compare(before, after, ("A", "B")).sections
    (found,) = (section for section in sections if section.number == number)
    return {change.name: change for change in found.changes}


def test_what_a_cut_list_leaves_out_is_not_gone(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    before, after = code(made, 211), code(made, 7)
    assert not any("small" in each.name for each in by_code(after).measures)
    found = changes(before, after, 4)["small (python3.13)"]
    assert (found.before, found.after) == (211 * PAGE, 7 * PAGE)
    shown = diff(compare(before, after, ("A", "B"))).plain
    assert "and 3 smaller: see --json\n" in shown
    assert f"small (python3.13){'':19}" in shown  # it is among the largest of the two


def test_a_long_list_is_cut_and_its_rest_summed(tmp_path: Path) -> None:
    rows = tuple(
        detail(1, faults=at, mapping=mapping(f"m{at}", type=MappingType.ANON))
        for at in range(1, 12)
    )
    found = by_mapping(told(make(tmp_path / "f"), details=rows)).measures
    assert len(found) == MOST + 1
    assert (found[-1].name, found[-1].value) == ("5 others", (1 + 2 + 3 + 4 + 5) * PAGE)


def test_functions_of_one_name_add_up(tmp_path: Path) -> None:
    found = by_code(
        told(
            make(tmp_path / "f"),
            detail(1, faults=11, user_stack=calls("load", "main", module="/srv/a/utils.py")),
            detail(1, faults=23, user_stack=calls("load", "main", module="/srv/b/utils.py")),
        )
    ).measures
    assert [(each.name, each.value) for each in found] == [("load (utils.py)", 34 * PAGE)]


def test_a_time_of_faults_that_never_came_is_missing(tmp_path: Path) -> None:
    before = make(tmp_path / "f")
    rows = tuple(row for row in before.last.details if row.latency == 11)  # the parent's
    found = changes(before, told(before, details=rows), 8)
    assert found["parent, copied, p99"].share == 0
    assert found["child, copied, p99"].before == 2 << 12
    assert found["child, copied, p99"].after is None


def test_a_mapping_that_the_other_never_copied_is_0(tmp_path: Path) -> None:
    before = make(tmp_path / "f")
    rows = tuple(row for row in before.last.details if row.pid == 1)
    assert changes(before, told(before, details=rows), 3)["[heap]"].share == 0
    gone = [
        c for name, c in changes(before, told(before, details=rows), 3).items() if "/scr" in name
    ]
    assert [each.after for each in gone] == [0.0]


def test_without_one_fork_the_most_that_may_come_is_not_known(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    forks = (fork(shareable=100), fork(number=2, child=3, shareable=None))
    known = replace(made, last=replace(made.last, generations=forks[:1]))
    unknown = replace(made, last=replace(made.last, generations=forks))
    assert risk(known).measures[1].value == 100 * PAGE
    assert risk(unknown).measures[1].value is None


def test_nothing_copied(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    idle = replace(
        made,
        points=(),
        last=replace(
            made.last,
            processes=(process(1, "idle", row(FaultKind.REUSED, 23)),),
            details=(),
            samples=(),
            generations=(),
        ),
    )
    found = answers(idle)
    assert found[2].note == found[4].note == "Nothing was copied."
    assert found[8].note == "No fork still shared at the end."
    assert compare(made, idle, ("A", "B")).verdict == (
        "B copied 100% less than A: 0 against 1.59 MiB, in about the same time."
    )
