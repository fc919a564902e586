"""terminal/processes.py: whole tables at 80 columns, as on a pipe."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from snapshots import PAGE, process, row, snapshot, text

from cowtrace.analysis.processes import SORT_KEYS, Frame, rows
from cowtrace.model import Completeness, FaultKind, FaultRow, Origin, PageFaults, Source
from cowtrace.terminal.processes import fault_table, render, view
from cowtrace.terminal.screen import PlainScreen, fitted

REDIS = process(
    4_194_304,
    "redis-server",
    row(FaultKind.COPIED, 23_000),
    row(FaultKind.FILE_COPIED, 509, Source.FILE),
    row(FaultKind.ZERO_FILLED, 23, Source.ZERO),
    row(FaultKind.REUSED, 1_234_567),
    page_faults=PageFaults(1_300_000, 42, 1_258_099),
)
CHILD = process(
    23,
    "redis-rdb-bgsav",
    row(FaultKind.COPIED, 7),
    row(FaultKind.SHARED, 5, Source.FILE),
    parent=4_194_304,
    exited=True,
)
QUIET = process(99, "quiet")


def frame(*processes: object, **fields: object) -> Frame:
    now = snapshot(*processes, at=2.5)  # type: ignore[arg-type]
    return dataclasses.replace(Frame(now, rows(now, None), 240), **fields)  # type: ignore[arg-type]


def test_a_table() -> None:
    assert (
        text(frame(REDIS, CHILD, QUIET))
        == """\
    PID COMM              FAULTS  COPIED    ZERO  REUSED  SHARED   BYTES      /S
4194304 redis-server       1.26M  23,509      23   1.23M       0 91.8MiB 36.7MiB
     23 redis-rdb-bgsav†      12       7       0       0       5 28.0KiB 11.2KiB
plan kprobe, kernel 6.12.43+deb13-cloud-amd64, 2.5 s: 2 of 240 processes
unclassified 0, lost 0; † exited
"""
    )


def test_sums_are_over_all_processes_not_only_those_shown() -> None:
    assert (
        text(frame(REDIS, CHILD, QUIET, limit=1, total=True))
        == """\
    PID COMM              FAULTS  COPIED    ZERO  REUSED  SHARED   BYTES      /S
4194304 redis-server       1.26M  23,509      23   1.23M       0 91.8MiB 36.7MiB
       total               1.26M  23,516      23   1.23M       5 91.9MiB 36.7MiB
plan kprobe, kernel 6.12.43+deb13-cloud-amd64, 2.5 s: 1 of 240 processes
unclassified 0, lost 0
"""
    )


def test_what_the_plan_cannot_see_is_no_number() -> None:
    unseen = frozenset({FaultKind.SHARED, FaultKind.UNCHANGED})
    blind = process(23, "redis", row(FaultKind.COPIED, 23), unseen=unseen)
    now = snapshot(blind, unseen=unseen, plan="tracepoint")
    assert (
        text(Frame(now, rows(now, None), 1, total=True))
        == """\
    PID COMM              FAULTS  COPIED    ZERO  REUSED  SHARED   BYTES      /S
     23 redis                 23      23       0       0       - 92.0KiB 92.0KiB
       total                  23      23       0       0       - 92.0KiB 92.0KiB
plan tracepoint, kernel 6.12.43+deb13-cloud-amd64, 1.0 s: 1 of 1 processes
unclassified 0, lost 0; - not seen by this plan: shared
"""
    )


def test_a_plan_that_sees_no_copies_shows_no_bytes() -> None:
    unseen = frozenset({FaultKind.COPIED, FaultKind.FILE_COPIED})
    blind = process(23, "redis", row(FaultKind.REUSED, 5), unseen=unseen)
    line = text(frame(blind)).splitlines()[1]
    assert line.split() == ["23", "redis", "5", "-", "0", "5", "0", "-", "-"]


def test_losses_are_shown_by_cause() -> None:
    lossy = Completeness(12, (("return missed", 5), ("sums full", 7)))
    now = snapshot(process(1, "a", row(FaultKind.UNCLASSIFIED, 3)), completeness=lossy)
    shown = text(Frame(now, rows(now, None), 1)).splitlines()[-1]
    assert shown == "unclassified 3, lost 12 (return missed 5, sums full 7)"


def test_losses_in_details_are_shown_also_where_no_fault_is_lost() -> None:
    lossy = Completeness(0, (("stacks full", 5), ("pid reused", 7)))
    shown = text(Frame(snapshot(completeness=lossy), (), 0)).splitlines()[-1]
    assert shown == "unclassified 0, lost 0, lost in details 5 (stacks full 5, pid reused 7)"


def test_what_the_tracepoint_plan_does_not_see_stands_below_the_table() -> None:
    now = snapshot(completeness=Completeness(0, (("outside faults", 1234),)))
    assert "system calls" not in text(Frame(now, (), 0))
    shown = " ".join(text(Frame(replace(now, plan="tracepoint"), (), 0)).split())
    assert shown.endswith("not seen, in system calls: at most 1,234 copied, 0 zero-filled")


def test_no_process_leaves_head_and_footer() -> None:
    assert len(text(frame(QUIET)).splitlines()) == 3


def test_details() -> None:
    remote = FaultRow(FaultKind.COPIED, Source.UNKNOWN, Origin.REMOTE, 509, 2, 2 * PAGE)
    traced = dataclasses.replace(REDIS, rows=(*REDIS.rows, remote))
    assert (
        text(frame(traced, CHILD, verbose=True))
        == """\
    PID COMM              FAULTS  COPIED    ZERO  REUSED  SHARED   BYTES      /S
4194304 redis-server       1.26M  23,511      23   1.23M       0 91.8MiB 36.7MiB
     23 redis-rdb-bgsav†      12       7       0       0       5 28.0KiB 11.2KiB

                          FAULTS  FAULTS  WRITE-   FILE-     UN-         UNCLAS-
    PID COMM                USER  KERNEL PROTECT  COPIED CHANGED  FAILED  SIFIED
4194304 redis-server       1.30M      42   1.26M     509       0       0       0
     23 redis-rdb-bgsav†       -       -       -       0       0       0       0

    PID COMM                     KIND  SOURCE  ORIGIN   ACTOR  FAULTS   BYTES
4194304 redis-server           reused    anon    user       -   1.23M       0
4194304 redis-server           copied    anon    user       -  23,000 89.8MiB
4194304 redis-server      file-copied    file    user       -     509 1.99MiB
4194304 redis-server      zero-filled    zero    user       -      23 92.0KiB
4194304 redis-server           copied       -  remote     509       2 8.00KiB
     23 redis-rdb-bgsav†       copied    anon    user       -       7 28.0KiB
     23 redis-rdb-bgsav†       shared    file    user       -       5       0
plan kprobe, kernel 6.12.43+deb13-cloud-amd64, 2.5 s: 2 of 240 processes
unclassified 0, lost 0; † exited
"""
    )


@pytest.mark.parametrize(
    ("comm", "cell"),
    [
        ("[bold red]x[/]", "[bold red]x[/]"),
        ("[/]", "[/]"),
        (":smiley:", ":smiley:"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x…"),
        ("\x1b[2J\x1b[H", r"\x1b[2J\x1b[H"),
        ("a\nb", r"a\x0ab"),
        ("\u202eevil", r"\u202eevil"),
        ("日本語日本語日本", "日本語日本語日…"),
        ("", ""),
    ],
)
def test_a_hostile_name_stays_in_its_cell(comm: str, cell: str) -> None:
    shown = text(frame(process(23, comm, row(FaultKind.COPIED, 1)))).splitlines()
    assert len(shown) == 4
    assert shown[1].startswith(f"     23 {cell}")
    assert shown[1].endswith(" 1       1       0       0       0 4.00KiB 1.60KiB")
    assert cell_len(shown[1]) == 80


def test_a_hostile_name_does_not_act_on_a_terminal_either() -> None:
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=80, color_system="truecolor")
    terminal.print(render(frame(process(23, "\x1b[41m[red]x", row(FaultKind.COPIED, 1)))))
    assert r"\x1b[41m[red]x" in stream.getvalue()
    assert "\x1b[41m" not in stream.getvalue()


def test_width_ignores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = text(frame(REDIS))
    for name, value in (("COLUMNS", "20"), ("FORCE_COLOR", "1"), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
    assert text(frame(REDIS)) == wide
    assert "\x1b" not in wide


@settings(max_examples=60, deadline=None)
@given(
    pid=st.integers(1, 4_194_304),
    comm=st.text(max_size=15),
    counts=st.lists(st.integers(0, 2**64), min_size=8, max_size=8),
    at=st.floats(0.001, 1e9),
    seen=st.integers(0, 10**7),
    verbose=st.booleans(),
)
def test_every_line_fits_80_columns(
    pid: int, comm: str, counts: list[int], at: float, seen: int, verbose: bool
) -> None:
    each = [row(kind, n) for kind, n in zip(FaultKind, counts, strict=True) if n]
    one = process(pid, comm, *each, exited=True, page_faults=PageFaults(*counts[:3]))
    lossy = Completeness(counts[0], (("return missed", counts[0]), ("full", counts[1])))
    now = snapshot(one, at=at, completeness=lossy, unseen=frozenset(FaultKind))
    frame = Frame(now, rows(now, None), seen, total=True, verbose=verbose)
    assert all(cell_len(line) <= 80 for line in text(frame).splitlines())


def test_sorting() -> None:
    a = process(1, "b", row(FaultKind.COPIED, 5), row(FaultKind.REUSED, 9))
    b = process(2, "a", row(FaultKind.COPIED, 6))
    c = process(3, "c", row(FaultKind.ZERO_FILLED, 1), row(FaultKind.SHARED, 2))
    now = snapshot(a, b, c)
    order = {key: [r.pid for r in rows(now, None, sort=key)] for key in SORT_KEYS}
    assert order == {
        "rate": [2, 1, 3],
        "bytes": [2, 1, 3],
        "faults": [1, 2, 3],
        "copied": [2, 1, 3],
        "zero": [3, 2, 1],
        "reused": [1, 2, 3],
        "shared": [3, 2, 1],
        "pid": [1, 2, 3],
        "comm": [2, 1, 3],
    }


def test_the_rate_is_that_of_the_last_interval() -> None:
    before = snapshot(process(1, "a", row(FaultKind.COPIED, 10)), at=1.0)
    now = snapshot(process(1, "a", row(FaultKind.COPIED, 30)), at=3.0)
    (shown,) = rows(now, before)
    assert shown.rate == 10 * PAGE


def test_a_named_process_is_shown_without_faults() -> None:
    now = snapshot(QUIET)
    assert [r.pid for r in rows(now, None, always=[99])] == [99]
    assert rows(now, None) == ()


def test_plain_screen_separates_blocks() -> None:
    stream = io.StringIO()
    with PlainScreen(stream) as screen:
        screen.show(view(frame(REDIS)))
        screen.resized()
        screen.show(view(frame(REDIS)))
    one = text(frame(REDIS))
    assert stream.getvalue() == one + "\n" + one


@pytest.mark.parametrize(
    ("width", "headers"),
    [
        (200, "PID COMM FAULTS COPIED ZERO REUSED SHARED BYTES /S"),
        (80, "PID COMM FAULTS COPIED ZERO REUSED SHARED BYTES /S"),
        (79, "PID COMM FAULTS COPIED ZERO REUSED BYTES /S"),
        (60, "PID COMM FAULTS COPIED BYTES /S"),
        (20, "PID COMM COPIED BYTES /S"),
    ],
)
def test_a_narrow_terminal_loses_whole_columns_not_digits(width: int, headers: str) -> None:
    table = fault_table(frame(REDIS), width)
    assert " ".join(str(column.header).strip() for column in table.columns) == headers


def test_as_many_rows_as_the_terminal_is_high() -> None:
    now = snapshot(*(process(pid, "x", row(FaultKind.COPIED, pid)) for pid in range(1, 40)))
    terminal = Console(file=io.StringIO(), width=80, force_terminal=True)
    for verbose in (False, True):
        for height in (1, 5, 11, 24, 25, 60, 200):
            tall = Frame(now, rows(now, None), 39, limit=39, verbose=verbose)
            lines = terminal.render_lines(fitted(view(tall), terminal, height))
            assert len(lines) <= max(height, 11 if verbose else 4)
