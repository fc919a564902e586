"""analysis/mappings.py and terminal/mappings.py: which mappings are one row, and their table."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from snapshots import PAGE, detail, mapping, process, row, snapshot, text

from cowtrace.analysis.mappings import mapping_rows, segment
from cowtrace.model import DetailRow, FaultKind, MappingType, Snapshot, Source
from cowtrace.terminal.mappings import view

HEAP = mapping(type=MappingType.HEAP, start=0x555500000000)
ARENA = mapping("glibc: malloc arena")
LIBC = "/usr/lib/x86_64-linux-gnu/libc.so.6"
DATA = mapping(LIBC, MappingType.FILE, inode=23)
CODE = mapping(LIBC, MappingType.FILE, start=0x7F0000400000, flags=5, inode=23)
GONE = process(23, "worker", row(FaultKind.COPIED, 7), exited=True)
REDIS = process(4_194_304, "redis-server")


def of(*details: DetailRow, at: float = 1.0) -> Snapshot:
    return replace(snapshot(REDIS, GONE, at=at), details=details)


NOW = of(
    detail(4_194_304, FaultKind.COPIED, 503, mapping=HEAP),
    detail(4_194_304, FaultKind.REUSED, 23, mapping=HEAP),
    detail(4_194_304, FaultKind.FILE_COPIED, 5, mapping=DATA, source=Source.FILE),
    detail(4_194_304, FaultKind.COPIED, 11, mapping=ARENA, source=Source.THP),
    detail(4_194_304, FaultKind.COPIED, 2, mapping=replace(ARENA, start=0x7F1000000000)),
    detail(23, FaultKind.COPIED, 7, mapping=CODE),
    detail(23, FaultKind.COPIED, 1),
    at=2.0,
)


def test_all_processes() -> None:
    assert (
        text(view(NOW, mapping_rows(NOW, None), 20, {}, one=False, addresses=False))
        == """\
    PID COMM       MAPPING                  SEG   COPIED  REUSED   BYTES      /S
4194304 redis-ser… [heap]                   rw-p     503      23 1.96MiB 1006KiB
4194304 redis-ser… [anon:glibc: mallo… +thp rw-p      13       0 52.0KiB 26.0KiB
     23 worker†    …_64-linux-gnu/libc.so.6 r-xp       7       0 28.0KiB 14.0KiB
4194304 redis-ser… …_64-linux-gnu/libc.so.6 rw-p       5       0 20.0KiB 10.0KiB
     23 worker†    -                                   1       0 4.00KiB 2.00KiB
plan kprobe, kernel 6.12.43+deb13-cloud-amd64, 2.0 s: 5 of 5 mappings
unclassified 0, lost 0; † exited; +thp, +hugetlb: huge pages were hit; -
unknown: its name could not be read
"""
    )


def test_one_process_is_named_once() -> None:
    now = of(detail(4_194_304, FaultKind.COPIED, 503, mapping=DATA))
    assert (
        text(view(now, mapping_rows(now, None), 20, {}, one=True, addresses=False))
        == """\
MAPPING                                     SEG   COPIED  REUSED   BYTES      /S
/usr/lib/x86_64-linux-gnu/libc.so.6         rw-p     503       0 1.96MiB 1.96MiB
plan kprobe, kernel 6.12.43+deb13-cloud-amd64, 1.0 s: 1 of 1 mappings of 4194304
redis-server
unclassified 0, lost 0
"""
    )


def test_addresses_tell_mappings_of_one_name_apart() -> None:
    rows = mapping_rows(NOW, None, addresses=True)
    shown = text(view(NOW, rows, 20, {}, one=False, addresses=True)).splitlines()
    assert len(rows) == 6
    assert shown[1] == ("4194304  555500000000 [heap]       rw-p     503      23 1.96MiB 1006KiB -")
    assert any(line.startswith("     23†") for line in shown)
    assert all(cell_len(line) <= 80 for line in shown)


def test_addresses_tell_where_in_the_page_writes_are() -> None:
    rows = (detail(23, faults=n, mapping=HEAP, eighth=at) for at, n in ((0, 8), (3, 4), (7, 1)))
    now = of(*rows, detail(23, FaultKind.REUSED, 99, mapping=HEAP, eighth=5))
    found = mapping_rows(now, None, addresses=True)
    assert [row.by_eighth for row in found] == [(8, 0, 0, 4, 0, 0, 0, 1)]
    shown = text(view(now, found, 20, {}, one=True, addresses=True)).splitlines()
    assert shown[0].endswith("IN PAGE")
    assert shown[1].endswith(" █  ▄   ▁")


def test_the_rate_is_that_of_the_last_interval() -> None:
    before = of(detail(23, FaultKind.COPIED, 10, mapping=HEAP), at=1.0)
    now = of(detail(23, FaultKind.COPIED, 30, mapping=HEAP), at=3.0)
    (shown,) = mapping_rows(now, before)
    assert shown.rate == 10 * PAGE


def test_what_the_plan_cannot_see_is_no_number() -> None:
    blind = replace(REDIS, unseen=frozenset({FaultKind.SHARED}))
    now = replace(NOW, processes=(blind, GONE))
    assert {row.shared for row in mapping_rows(now, None) if row.pid != 23} == {None}


def test_segments_are_those_of_proc() -> None:
    assert segment(HEAP) == "rw-p"
    assert segment(CODE) == "r-xp"
    assert segment(replace(HEAP, flags=1 | 8)) == "r--s"


def test_a_hostile_name_stays_in_its_cell() -> None:
    evil = mapping("/tmp/\x1b[2J\n\u202e日本語" * 3, MappingType.FILE)
    now = of(detail(23, mapping=evil), detail(23, mapping=mapping("[red]\x1b[0m")))
    shown = text(view(now, mapping_rows(now, None), 20, {}, one=False, addresses=False))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[anon:[red]\\x1b[0m]" in shown
    assert all(cell_len(line) <= 80 for line in shown.splitlines())
    assert len(shown.splitlines()) == 5


def test_a_wide_terminal_shows_whole_names() -> None:
    made = view(NOW, mapping_rows(NOW, None), 20, {}, one=False, addresses=False)
    terminal = Console(file=io.StringIO(), width=120)
    with terminal.capture() as shown:
        terminal.print(made.draw(made.rows, 120))
    assert LIBC in shown.get()


def test_bytes_are_those_of_copies(tmp_path: Path) -> None:
    rows = detail(1, faults=23), detail(1, FaultKind.ZERO_FILLED, 11)
    now = replace(snapshot(process(1, "a")), details=rows)
    (found,) = mapping_rows(now, None)
    assert (found.copied, found.zero, found.bytes) == (23, 11, 23 * PAGE)
