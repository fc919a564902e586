"""`cowtrace demo`: what it says of what was observed, and its processes without a tracer."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner
from snapshots import PAGE, FakeTracer, process, row, snapshot

from cowtrace import tracer
from cowtrace.analysis.processes import Frame, rows
from cowtrace.cli import demo as cli_demo
from cowtrace.cli import main
from cowtrace.cli.kernels import Machine
from cowtrace.demo import narration, presenter
from cowtrace.demo.acts import KINDS, Act, Played, Stage, check_pages
from cowtrace.demo.forked_processes import Answer
from cowtrace.errors import CowtraceError
from cowtrace.model import FaultKind, Snapshot
from cowtrace.workloads.outcome import Counts

COPIED, ZERO_FILLED, REUSED, SHARED = KINDS
N = 2000


def played(act: Act, pages: int, *, moved: Counts | None = None, **traced: int | None) -> Played:
    """As it is on a kernel that does what most do; `traced` by kind, 0 unless given."""
    counts: dict[FaultKind, int | None] = {k: traced.get(k.name.lower(), 0) for k in KINDS}
    same = pages if act in (Act.FORK, Act.SHARED_CHILD_WRITES) else None
    answer = Answer(
        23,
        pages,
        pages * 1000,
        pages * 5,
        moved or Counts(*(counts[COPIED], 0, *(counts[k] for k in KINDS[1:]))),
        same,
        True,
    )
    return Played(act, answer, counts, PAGE)


USUAL = (
    played(Act.FILL, N),
    played(Act.READ_THEN_WRITE, N // 4, zero_filled=N // 4),
    played(Act.FORK, N),
    played(Act.CHILD_WRITES_HALF, N // 2, copied=N // 2),
    played(Act.PARENT_WRITES_SAME_HALF, N // 2, reused=N // 2),
    played(Act.PARENT_WRITES_OTHER_HALF, N // 2, copied=N // 2),
    played(Act.SHARED_FILL, N // 10, shared=N // 10),
    played(Act.SHARED_FORK, N // 10),
    played(Act.SHARED_CHILD_WRITES, N // 10, shared=N // 10),
)


def told() -> str:
    """The whole story on a pipe."""
    stream = io.StringIO()
    cast = (process(23, "parent", row(COPIED, N // 2)), process(29, "child", row(COPIED, N // 2)))
    now = snapshot(*cast)
    frame = Frame(now, rows(now, None, sort="pid"), 2, total=True)
    with presenter.Presenter(stream, live=False) as shown:
        for number, one in enumerate(USUAL, start=1):
            shown.announce(number, one.act, N)
            shown.describe(one)
            shown.show(frame)
        shown.show(frame, final=True)
    shown.close(USUAL, frame)
    return stream.getvalue()


def test_the_story_on_a_pipe() -> None:
    assert (
        told()
        == """\
After a fork, parent and child share their memory. Then one of them writes, then
the other. Two answers are common: "both of them get a copy", and "only the
first one to write does". Here is what this kernel does.

1. A parent writes 2,000 pages of new memory.
   copied 0. There was nothing to copy: each page was new.
2. It reads 500 pages that it never wrote, then writes them.
   copied 0, zero-filled 500. Before, all of them were one page of zeroes; now
   each has a new page.
3. It forks.
   copied 0. It took 2.00 ms and copied none of the pages. Both processes have
   the same pages.
4. The child writes one byte in each page of the first half: 1,000 pages.
   copied 1,000 (3.91 MiB). One byte written, one whole page of 4,096 bytes
   copied. The parent still reads its own bytes.
5. The parent writes the same 1,000 pages.
   copied 0, reused 1,000. The child has its own copies, so the parent's pages
   are exclusive: only re-marked.
6. The parent writes the other half, which the child did not.
   copied 1,000 (3.91 MiB). The first to write a page pays for its copy, child
   or parent.
7. A new parent writes 200 pages that are shared on purpose (MAP_SHARED).
   copied 0, shared 200. There was nothing to copy: each page was new.
8. It forks.
   copied 0. It took 200 µs and copied none of the pages.
9. Its child writes all 200 of them.
   copied 0, shared 200. The parent reads what the child wrote. Both still have
   the same pages.

    PID COMM              FAULTS  COPIED    ZERO  REUSED  SHARED   BYTES      /S
     23 parent             1,000   1,000       0       0       0 3.91MiB 3.91MiB
     29 child              1,000   1,000       0       0       0 3.91MiB 3.91MiB
       total               2,000   2,000       0       0       0 7.81MiB 7.81MiB
plan kprobe, kernel 6.12.43+deb13-cloud-amd64, 1.0 s: 2 of 2 processes
unclassified 0, lost 0

Kernel 6.12.43+deb13-cloud-amd64, pages of 4,096 bytes:
            PAGES BYTES COPIED    EACH THE PAGE
copied      2,000     7.81 MiB 1.00 µs was shared: bytes went to a new page
zero-filled   500            0 1.00 µs was only read before: a page of zeroes
reused      1,000            0 1.00 µs no longer shared: only marked writable
shared        400            0 1.00 µs shared on purpose: never copied
A write that does not fault takes 5.00 ns.

So here only the first one to write gets a copy. The other one is then alone
with the old page: its write faults as well, but is only marked writable. A tool
that takes every write-protection fault for a copy counts 3,500, not 2,000.
/proc/PID/pagemap, which is independent of the trace, agrees: 2,500 pages are in
another frame than before their write, 1,000 in the same.
"""
    )


def replaced(act: Act, **traced: int | None) -> list[Played]:
    """The usual story, but for one act."""
    pages = next(one.answer.pages for one in USUAL if one.act is act)
    other = played(act, pages, **traced)  # type: ignore[arg-type]
    return [other if one.act is act else one for one in USUAL]


def test_a_kernel_that_copies_twice_is_not_told_as_the_usual_one() -> None:
    story = replaced(Act.PARENT_WRITES_SAME_HALF, copied=N // 2)
    assert narration.conclusion(story).startswith("So on this kernel both of them got a copy.")
    assert "copies them once more" in narration.describe(story[4])


def test_a_kernel_that_does_both_is_told_so() -> None:
    story = replaced(Act.PARENT_WRITES_SAME_HALF, copied=15, reused=N // 2 - 15)
    assert "a copy of some pages, not of others" in narration.conclusion(story)
    assert narration.describe(story[4]).startswith(
        "copied 15 (60.0 KiB), reused 985. This kernel copies some"
    )
    assert narration.nanoseconds(story, REUSED) is None  # no act of that kind alone to time


def test_nothing_is_claimed_that_was_not_observed() -> None:
    fork = narration.describe(played(Act.FORK, N, copied=3))
    assert fork == "copied 3 (12.0 KiB)."
    broken = dataclasses.replace(
        USUAL[3], answer=dataclasses.replace(USUAL[3].answer, data_right=False)
    )
    assert "The parent still reads its own" not in narration.describe(broken)
    assert "READS THE WRONG BYTES" in narration.describe(broken)


def test_a_kind_that_the_plan_cannot_see() -> None:
    assert "shared" not in narration.describe(played(Act.SHARED_CHILD_WRITES, 200, shared=None))
    story = [dataclasses.replace(one, traced=one.traced | {SHARED: None}) for one in USUAL]
    stream = io.StringIO()
    from cowtrace.terminal import plain

    plain.write(stream, presenter.summary_table(story))
    assert stream.getvalue().splitlines()[-1].split()[:4] == ["shared", "-", "-", "-"]


def test_pagemap_disagrees() -> None:
    wrong = played(Act.CHILD_WRITES_HALF, N // 2, copied=N // 2, moved=Counts(copied=999))
    assert wrong.disagreements == ((COPIED, 1000, 999),)
    said = narration.evidence([*USUAL, wrong], lost=0)
    assert "DISAGREES. child-writes-half: copied 1,000 traced, 999 in pagemap." in said


def test_pagemap_hidden() -> None:
    blind = [
        dataclasses.replace(one, answer=dataclasses.replace(one.answer, pagemap=None))
        for one in USUAL
    ]
    assert narration.evidence(blind, lost=0).startswith("Not checked")
    assert all(not one.disagreements for one in blind)


def test_losses_are_not_passed_over() -> None:
    assert narration.evidence(USUAL, lost=3) == "NOT COMPLETE: the trace lost 3 faults."


def test_real_processes_play_every_act() -> None:
    """With no tracer: what they answer, and that the other side always reads what it must."""
    with Stage(snapshot, 40) as stage:
        story = [stage.play(act) for act in Act]
    assert [one.answer.pages for one in story] == [40, 10, 40, 20, 20, 20, 4, 4, 4]
    assert all(one.answer.data_right for one in story)
    assert len({one.answer.pid for one in story} | stage.pids) == 4


@pytest.mark.parametrize(("pages", "code"), [(0, 2), (-5, 2), (19, 2), (10**12, 1)])
def test_too_few_or_too_many_pages(pages: int, code: int) -> None:
    with pytest.raises(CowtraceError) as caught:
        check_pages(pages)
    assert caught.value.exit_code == code
    result = CliRunner().invoke(main, ["demo", "--pages", str(pages)])
    assert result.exit_code == code
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["cowtrace", "Hint"]


def test_a_process_that_dies_is_an_error_of_two_lines() -> None:
    with pytest.raises(CowtraceError) as caught, Stage(snapshot, 40) as stage:
        stage.play(Act.PARENT_WRITES_SAME_HALF)  # before the fork
    assert "no act before the fork" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trace_that_counts_nothing_ends_in_a_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where pagemap shows frames: elsewhere there is nothing to compare with."""

    def attach(plan: str = "auto", **options: Any) -> FakeTracer:
        return FakeTracer(snapshot())

    monkeypatch.setattr(tracer, "attach", attach)
    result = CliRunner().invoke(main, ["demo", "--pages", "40"])
    hidden = "Not checked" in result.output
    assert result.exit_code == (0 if hidden else 4)
    assert hidden or "DISAGREES" in result.output


Snapshots = Callable[[], Snapshot]


def test_file_copies_count_as_copies() -> None:
    both = process(23, "x", row(COPIED, 2), row(FaultKind.FILE_COPIED, 3))
    with Stage(lambda: snapshot(both), 40) as stage:
        stage.pids.add(23)
        assert stage._counts()[COPIED] == 5


def test_another_kernel_shows_the_same_in_the_vm(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[object] = []

    def run_in_vm(kernel: str, command: list[str], machine: Machine) -> int:
        ran.append((kernel, command, machine.arguments()))
        return 4

    monkeypatch.setattr(cli_demo, "run_in_vm", run_in_vm)
    arguments = ["demo", "--kernel", "../linux", "--pages", "500", "--pause", "0"]
    arguments += ["--modules", "lib", "--append", "a b"]
    assert CliRunner().invoke(main, arguments).exit_code == 4
    command = ["cowtrace", "demo", "--pages=500", "--attach=auto", "--pause=0.0"]
    of_vm = ("--modules=lib", "--append=a b", "--memory=2048", "--cpus=2")
    assert ran == [("../linux", command, of_vm)]
