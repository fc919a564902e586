"""Profiles for pprof, decoded by protobuf: of made-up snapshots and recordings."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pprof_reader
import pytest
from click.testing import CliRunner
from made_recordings import EVIL, write
from snapshots import PAGE, FakeTracer, calls, detail, mapping, process, row, snapshot

import cowtrace.tracer
from cowtrace.cli import main
from cowtrace.machine.protobuf_wire import number, packed, varint
from cowtrace.model import (
    DetailRow,
    FaultKind,
    MappingType,
    Phase,
    Place,
    Snapshot,
    WriteCause,
    Written,
)

COLLECT = calls("gc_collect", "main")
PYTHON = calls("py::work:/srv/app.py", "main")
WRITTEN = Written(WriteCause.REFERENCE_COUNT, "builtins.dict", Phase.RUNNING)
ROWS = (
    detail(1, faults=23, user_stack=COLLECT, mapping=mapping(type=MappingType.HEAP)),
    detail(1, faults=11, user_stack=COLLECT, mapping=mapping("/lib/a.so", MappingType.FILE)),
    detail(1, faults=5, user_stack=PYTHON, written=WRITTEN),
    detail(1, FaultKind.REUSED, 7, user_stack=COLLECT),
    detail(1, FaultKind.ZERO_FILLED, 3, user_stack=COLLECT),
    detail(2, faults=2),
)


@pytest.mark.parametrize(
    ("value", "bytes_"),
    [(0, b"\0"), (127, b"\x7f"), (300, b"\xac\x02"), (-1, b"\xff" * 9 + b"\x01")],
)
def test_varints_are_those_of_the_published_examples(value: int, bytes_: bytes) -> None:
    assert varint(value) == bytes_
    assert number(1, 150) == b"\x08\x96\x01"
    assert packed(6, (3, 270, 86942)) == b"\x32\x06\x03\x8e\x02\x9e\xa7\x05"


def traced(monkeypatch: pytest.MonkeyPatch, file: Path, now: Snapshot, *options: str) -> Any:
    monkeypatch.setattr(cowtrace.tracer, "attach", lambda *_, **__: FakeTracer(now))
    ended = CliRunner().invoke(main, ["stacks", "-o", str(file), *options, "0.05", "1"])
    assert ended.exit_code == 0, ended.output
    return pprof_reader.read(file.read_bytes())


def of(rows: tuple[DetailRow, ...], *, exact: bool) -> Snapshot:
    now = snapshot(process(1, "python3", row(FaultKind.COPIED, 39)), process(2, EVIL))
    return replace(now, details=rows) if exact else replace(now, samples=rows)


def test_every_kind_of_an_exact_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = of(ROWS, exact=True)
    found = traced(monkeypatch, tmp_path / "x.pb.gz", now, "--frame-pointers")
    assert pprof_reader.types(found) == [
        ("copied_bytes", "bytes"),
        ("copied_pages", "count"),
        ("reused_faults", "count"),
        ("zero_filled", "count"),
    ]
    assert pprof_reader.stacks(found) == {
        ("gc_collect", "main"): [34 * PAGE, 34, 7, 3],
        ("work", "main"): [5 * PAGE, 5, 0, 0],
        ("</script><b>\\x1b[31m",): [2 * PAGE, 2, 0, 0],  # no stack: the name of the process
    }
    names = found.string_table
    assert names[found.default_sample_type] == "copied_bytes"
    assert "every copy" in [names[each] for each in found.comment]
    files = {names[each.name]: names[each.filename] for each in found.function}
    assert files["work"] == "/srv/app.py"
    assert {names[each.filename] for each in found.mapping} == {
        "/usr/bin/python3.13",
        "/srv/app.py",
    }
    assert found.duration_nanos == 1_000_000_000
    assert found.time_nanos > 1_700_000_000 * 10**9


def test_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cowtrace.proc.Places.of", lambda *_: Place(None, "/sys\x1b"))
    now = of(ROWS, exact=True)
    found = traced(monkeypatch, tmp_path / "x.pb.gz", now, "--frame-pointers")
    usual = {"comm": "python3", "cgroup": "/sys\\x1b", "pid": 1}
    expected = [
        usual | {"mapping": "[heap]"},
        usual | {"mapping": "/lib/a.so"},
        usual | {"cause": "reference count", "type": "builtins.dict", "phase": "running"},
        usual,
        usual | {"comm": "</script><b>\\x1b[31m", "pid": 2},
    ]
    assert sorted(pprof_reader.labels(found), key=str) == sorted(expected, key=str)


def test_samples_are_of_copies_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = of(ROWS[:3], exact=False)
    found = traced(monkeypatch, tmp_path / "x", now, "--format", "pprof")
    assert pprof_reader.types(found) == [("copied_bytes", "bytes"), ("copied_pages", "count")]
    assert sum(sample.value[0] for sample in found.sample) == 39 * PAGE
    assert "estimated from samples" in [found.string_table[each] for each in found.comment]


def test_a_kind_that_the_plan_cannot_see_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = replace(of(ROWS, exact=True), unseen=frozenset({FaultKind.REUSED}))
    found = traced(monkeypatch, tmp_path / "x.pb.gz", now, "--kernel")
    assert [name for name, _ in pprof_reader.types(found)] == [
        "copied_bytes",
        "copied_pages",
        "zero_filled",
    ]


SAMPLED = {"generation", "samples", "mapping"}


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (SAMPLED, {("gc_collect_main", "main"): 276, ("</script><b>\\x1b[31m", "main"): 132}),
        ({"mapping"}, {("server",): 276, ("</script><b>\\x1b[31m",): 132}),
        (set(), {("server",): 276, ("</script><b>\\x1b[31m",): 132}),
    ],
)
def test_of_a_recording(
    tmp_path: Path, details: set[str], expected: dict[tuple[str, ...], int]
) -> None:
    path = write(
        tmp_path / "f",
        details=frozenset(details),
        place_of=lambda process: Place(process.pid, f"/of/{process.pid}"),
    )
    out = tmp_path / "x.pb.gz"
    ended = CliRunner().invoke(main, ["report", str(path), "--profile", str(out)])
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    found = pprof_reader.read(out.read_bytes())
    pages = {key: values[1] for key, values in pprof_reader.stacks(found).items()}
    assert pages == expected
    assert sum(sample.value[0] for sample in found.sample) == (276 + 132) * PAGE
    assert {each["cgroup"] for each in pprof_reader.labels(found)} == {"/of/1", "/of/2"}
    mapped = {each.get("mapping") for each in pprof_reader.labels(found)}
    assert ("[heap]" in mapped) == (details == {"mapping"})
    assert found.time_nanos == 1_795_000_000 * 10**9
    if not details:
        reused = [name for name, _ in pprof_reader.types(found)].index("reused_faults")
        assert sum(sample.value[reused] for sample in found.sample) == 12


@pytest.mark.parametrize("name", ["x.folded", "x.speedscope.json", "x.txt"])
def test_other_formats_of_a_recording(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "f")
    ended = CliRunner().invoke(main, ["report", str(path), "--profile", str(tmp_path / name)])
    assert ended.exit_code == 0, ended.output
    text = (tmp_path / name).read_text()
    assert "gc_collect_main" in text
    if name == "x.folded":
        assert sum(int(line.rpartition(" ")[2]) for line in text.splitlines()) == 408 * PAGE


def test_a_name_without_a_format_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "f")
    ended = CliRunner().invoke(main, ["report", str(path), "--profile", str(tmp_path / "x.pdf")])
    assert ended.exit_code == 2
    assert ".pb.gz" in ended.stderr
    assert "--format" not in ended.stderr
