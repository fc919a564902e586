"""What the answers to a recording, and to two of them, may not claim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_recordings import make
from snapshots import PAGE, calls, detail, fork, mapping, process, row

from cowtrace.analysis.questions import answers
from cowtrace.analysis.questions.answer import Quality, Unit, copies
from cowtrace.analysis.questions.causes import MOST, by_code, by_mapping, by_source
from cowtrace.analysis.questions.compare import Change, compare
from cowtrace.analysis.questions.sums import risk
from cowtrace.model import DetailRow, FaultKind, MappingType, Source
from cowtrace.recording import Recording
from cowtrace.terminal.diff import diff_text, words

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
    shown = diff_text(compare(before, after, ("A", "B"))).plain
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


def test_copies_without_a_stack_are_no_function(tmp_path: Path) -> None:
    rows = detail(1, faults=23), detail(1, faults=11, user_stack=calls("load", "main"))
    found = by_code(told(make(tmp_path / "f"), *rows)).measures
    assert [each.name for each in found if not each.name.startswith("phase")] == [
        "load (python3.13)"
    ]


def test_pages_of_files_are_small_pages(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    copied = process(1, "a", row(FaultKind.COPIED, 23), row(FaultKind.FILE_COPIED, 11, Source.FILE))
    found = by_source(replace(made, last=replace(made.last, processes=(copied,)))).measures
    assert {each.name: each.value for each in found}["small pages"] == 34 * PAGE


def test_faults_that_could_not_be_classified_make_the_copies_a_lower_bound(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    faults = process(1, "a", row(FaultKind.COPIED, 23), row(FaultKind.UNCLASSIFIED, 1))
    found = replace(made, last=replace(made.last, processes=(faults,)))
    assert (copies(made), copies(found)) == (Quality.EXACT, Quality.LOWER_BOUND)


def test_a_comparison_doubts_what_is_not_complete(tmp_path: Path) -> None:
    whole = make(tmp_path / "f", plan="tracepoint")
    lossy = make(tmp_path / "g", plan="tracepoint", lost=1)
    assert copies(lossy) is Quality.INCOMPLETE
    assert (
        "B is not complete: it lost faults, or could not classify some."
        in compare(whole, lossy, ("A", "B")).doubts
    )


def test_a_comparison_doubts_a_recording_that_a_full_disk_ended(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    assert made.closed
    doubts = compare(made, replace(made, ended="no room"), ("A", "B")).doubts
    assert doubts == ("B was not closed: its last interval may be missing.",)


@pytest.mark.parametrize(
    ("scale", "said"), [(3, "50% more than"), (5, "150% more than"), (6, "3.0 times as much as")]
)
def test_how_much_more_was_copied(tmp_path: Path, scale: int, said: str) -> None:
    before, after = make(tmp_path / "f", scale=2), make(tmp_path / "g", scale=scale)
    assert said in compare(before, after, ("A", "B")).verdict


def test_what_may_come_is_held_against_the_memory_at_the_end(tmp_path: Path) -> None:
    made = replace(make(tmp_path / "f"), available=(10 * PAGE, 200 * PAGE))
    shared = replace(made, last=replace(made.last, generations=(fork(shareable=100),)))
    assert "fits into the memory available" in (risk(shared).note or "")
    short = replace(shared, available=(200 * PAGE, 10 * PAGE))
    assert "it can end in OOM" in (risk(short).note or "")


def test_forks_whose_child_has_ended_share_nothing_any_more(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    forks = fork(shareable=100), fork(number=2, child=3, ended=0.9)
    found = replace(made, last=replace(made.last, generations=forks))
    assert (risk(found).note or "").startswith("1 fork still shared at the end.")


def test_what_grew_is_red_and_what_shrank_is_green(tmp_path: Path) -> None:
    small, large = make(tmp_path / "f"), make(tmp_path / "g", scale=2)
    for before, after, change, colour in (
        (small, large, "+100%", "red"),
        (large, small, "-50%", "green"),
    ):
        shown = diff_text(compare(before, after, ("A", "B")))
        end = shown.plain.index("\n", shown.plain.index("    copied "))  # of the first question
        (style,) = {str(span.style) for span in shown.spans if span.start < end <= span.end}
        assert shown.plain[:end].endswith(change)
        assert style == colour


def test_a_change_in_a_word() -> None:
    pairs = {(0, 0): "same", (23, 0): "gone", (0, 23): "new", (23, 46): "+100%", (1, 4): "x 4.0"}
    assert {pair: words(Change("x", Unit.BYTES, *map(float, pair))) for pair in pairs} == pairs


def test_a_long_list_shows_what_was_largest_before_or_after(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    rows = tuple(detail(1, faults=at, mapping=mapping(f"m{at}")) for at in range(1, 12))
    grown = (detail(1, faults=99, mapping=mapping("m1")), *rows[1:])
    both = compare(told(made, details=rows), told(made, details=grown), ("A", "B"))
    lines = [line for line in diff_text(both).plain.splitlines() if "[anon:m" in line]
    assert [line.split()[0] for line in lines][:2] == ["[anon:m1]", "[anon:m11]"]
