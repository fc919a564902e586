"""`cowtrace snoop` over a made-up tracer: its lines, and what it says of drops."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from snapshots import FakeTracer, event, mapping, snapshot

from cowtrace import tracer
from cowtrace.cli import main
from cowtrace.cli.snoop import _Printer
from cowtrace.model import Completeness, FaultKind, MappingType, Origin, Source
from cowtrace.terminal.events import EventLines

HEAP = mapping(type=MappingType.HEAP)
EVENTS = (
    event(0x7F0000001234, pid=4_194_304, mapping=HEAP, is_exact=True),
    event(
        0x7F0000002000, is_exact=True, kind=FaultKind.UNCLASSIFIED, source=Source.UNKNOWN, ns=None
    ),
    event(
        0x7FFFFFFFF000,
        comm="gdb",
        kind=FaultKind.FILE_COPIED,
        source=Source.HUGETLB,
        origin=Origin.REMOTE,
        mapping=mapping("/usr/lib/x86_64-linux-gnu/libc.so.6", MappingType.FILE),
        ns=123_456_789,
    ),
)
Snoop = Callable[..., Result]


@pytest.fixture
def asked() -> dict[str, Any]:
    return {}


@pytest.fixture
def snoop(monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]) -> Snoop:
    def run(*arguments: str, counts: FakeTracer | None = None) -> Result:
        live = counts or FakeTracer(snapshot(), events=EVENTS)

        def attach(plan: str = "auto", **options: Any) -> FakeTracer:
            asked.update(options, plan=plan)
            return live

        monkeypatch.setattr(tracer, "attach", attach)
        result = CliRunner().invoke(main, ["snoop", *arguments])
        assert live.closed or not asked
        return result

    return run


def without_time(line: str) -> str:
    return re.sub(r"\d\d:\d\d:\d\d\.\d{3}", "HH:MM:SS.mmm", line)


def test_a_line_for_each_fault(snoop: Snoop) -> None:
    result = snoop("-n", "3")
    assert without_time(result.stdout) == (
        "TIME             PID COMM     KIND        SRC  FROM      ADDRESS MAPPING    TOOK\n"
        "HH:MM:SS.mmm 4194304 redis-s… copied      anon user 7f0000001234 [heap]   2.71µs\n"
        "HH:MM:SS.mmm       1 redis-s… unclassifi… -    user 7f0000002000 -             -\n"
        "HH:MM:SS.mmm       1 gdb      file-copied huge rem  7ffffffff--- …c.so.6   123ms\n"
    )
    assert result.stderr == "cowtrace: 3 faults shown, 0 dropped\n"


def test_wide(snoop: Snoop) -> None:
    last = snoop("-v", "-n", "3").stdout.splitlines()[-1].split()
    assert last[2:] == [
        "1", "gdb", "file-copied", "hugetlb", "remote", "7ffffffff---", "4096", "123ms",
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
    ]  # fmt: skip


def test_a_plan_that_cannot_time_has_no_such_column(snoop: Snoop) -> None:
    live = FakeTracer(snapshot(), events=EVENTS, details=frozenset({"mapping"}))
    head = snoop("-n", "3", counts=live).stdout.splitlines()[0]
    assert head.endswith("ADDRESS MAPPING")


def test_it_ends_after_count(snoop: Snoop) -> None:
    assert len(snoop("-n", "2").stdout.splitlines()) == 3


def test_filters(snoop: Snoop, asked: dict[str, Any]) -> None:
    assert [line.split()[2] for line in snoop("--comm", "g*", "-n", "1").stdout.splitlines()] == [
        "COMM",
        "gdb",
    ]
    shown = snoop("--kind", "unclassified", "--kind", "file-copied", "-n", "2").stdout
    assert "unclassifi…" in shown
    assert " copied " not in shown
    me = os.getpid()
    snoop("-p", str(me), "--follow", "-n", "1")
    assert (asked["only"].pids, asked["only"].follow) == ((me,), True)
    assert asked["events"] is True


def test_json(snoop: Snoop) -> None:
    first, second, third = map(json.loads, snoop("--json", "-n", "3").stdout.splitlines())
    assert (first["pid"], first["kind"], first["ns"]) == (4_194_304, "copied", 2710)
    assert first["mapping"] == {
        "name": "[heap]",
        "segment": "rw-p",
        "start": HEAP.start,
        "end": HEAP.end,
        "inode": None,
    }
    assert (second["source"], second["mapping"], second["ns"]) == (None, None, None)
    assert third["origin"] == "remote"


def dropping(n: int) -> FakeTracer:
    return FakeTracer(
        snapshot(completeness=Completeness(0, (("events dropped", n),))), events=EVENTS
    )


def test_drops_are_said(snoop: Snoop) -> None:
    assert snoop("-n", "3", counts=dropping(1009)).stderr.splitlines() == [
        "cowtrace: 1,009 faults dropped: too fast to be written",
        "cowtrace: 3 faults shown, 1,009 dropped",
    ]
    told = snoop("--json", "-n", "3", counts=dropping(1009))
    assert json.loads(told.stdout.splitlines()[-1]) == {"dropped": 1009}


@given(
    comm=st.text(max_size=16),
    name=st.text(max_size=64),
    pid=st.integers(1, 4_194_304),
    kind=st.sampled_from(FaultKind),
    origin=st.sampled_from(Origin),
    source=st.sampled_from(Source),
    ns=st.none() | st.integers(1, 10**12),
    timed=st.booleans(),
)
def test_every_line_fits_80_columns(timed: bool, name: str, **fields: Any) -> None:
    lines = EventLines(timed=timed)
    for kind in (MappingType.ANON, MappingType.FILE):
        line = lines.line(event(2**47 - 1, mapping=mapping(name, kind), **fields))
        assert cell_len(line) <= 80
        assert line.isprintable()


def test_drops_are_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    printer = _Printer(EventLines(), "json")
    for in_all in (0, 5, 5, 8):
        printer.dropped(in_all)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"dropped": 5}, {"dropped": 3}]
