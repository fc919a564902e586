"""`forks --forecast` and `watch`: the table, JSON, conditions, and the memory that is left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from snapshots import PAGE, FakeTracer, fork, process, snapshot, text

from cowtrace import tracer
from cowtrace.analysis.conditions import NAMES, parse
from cowtrace.analysis.fits import Fit, Outlook, Verdict, judged
from cowtrace.analysis.forecast import Forecast, of_ended
from cowtrace.analysis.forks import fork_rows
from cowtrace.cli import main
from cowtrace.cli.progress import ProgressHook, parsed
from cowtrace.errors import EXIT_TIMEOUT, EXIT_USAGE, CowtraceError
from cowtrace.machine import schema
from cowtrace.memory_left import memory_left
from cowtrace.model import Snapshot
from cowtrace.model.memory_left import Left, MemoryLeft
from cowtrace.terminal.forecast import view

MIB = 1 << 20
GIB = 1 << 30
MADE = Forecast(100 * MIB, 150 * MIB, 171 * MIB, 190 * MIB, 42.0, 23.0, 1)
PLENTY = MemoryLeft(Left(2 * GIB, None, 0))


@pytest.mark.parametrize(
    ("left", "verdict"),
    [
        (PLENTY, "yes"),
        (MemoryLeft(Left(80 * MIB, None, GIB)), "swap?"),
        (MemoryLeft(Left(50 * MIB, None, GIB)), "swap"),
        (MemoryLeft(Left(80 * MIB, None, 0)), "no?"),
        (MemoryLeft(Left(23 * MIB, None, 0)), "no"),
        (MemoryLeft(Left(GIB, None, 0), Left(80 * MIB)), "no?"),
        (MemoryLeft(Left(GIB, None, 0), Left(GIB, 80 * MIB)), "slow?"),
        (MemoryLeft(Left(GIB, None, GIB), Left(23 * MIB, None, 23 * MIB)), "no"),
        (MemoryLeft(Left(GIB, None, GIB), Left(23 * MIB, None, None)), "swap"),
    ],
)
def test_whether_it_fits(left: MemoryLeft, verdict: str) -> None:
    """71 MiB are expected to come, 90 at most."""
    found = judged([MADE], [MADE], left)
    assert found
    assert found.text == verdict


@pytest.mark.parametrize(
    ("left", "verdict"),
    [
        (MemoryLeft(Left(250 * MIB, None, 0), Left(140 * MIB)), "yes"),
        (MemoryLeft(Left(200 * MIB, None, 0)), "no"),
        (MemoryLeft(Left(250 * MIB, None, 0), Left(75 * MIB)), "no?"),
    ],
)
def test_forks_must_fit_together(left: MemoryLeft, verdict: str) -> None:
    """One of three is in this cgroup: 213 and 71 MiB are expected, 240 and 80 at most."""
    made = replace(MADE, high_bytes=180 * MIB)
    found = judged([made] * 3, [made], left)
    assert found
    assert found.text == verdict


def test_whether_it_fits_is_unknown_where_memory_is() -> None:
    assert judged([MADE], [MADE], MemoryLeft(Left())) is None


def mounted(folder: Path, **groups: dict[str, int | str]) -> Path:
    """A cgroup tree: `a__b` is a/b."""
    (folder / "cgroup.controllers").write_text("memory\n")
    for name, files in groups.items():
        group = folder.joinpath(*name.split("__"))
        group.mkdir(parents=True, exist_ok=True)
        for file, value in files.items():
            (group / file.replace("__", ".")).write_text(f"{value}\n")
    return folder


def test_the_nearest_limit_counts(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 4096 kB\nMemAvailable:   2048 kB\nSwapFree:  512 kB\n")
    mount = mounted(
        tmp_path,
        a={"memory__current": 700, "memory__max": 1000, "memory__high": "max",
           "memory__stat": "anon 500\ninactive_file 200\n"},
        a__b={"memory__current": 300, "memory__max": "max", "memory__high": 400,
              "memory__swap__max": 50, "memory__swap__current": 20},
    )  # fmt: skip
    left = memory_left("/a/b", meminfo, (tmp_path / "none", mount))
    assert left.machine == Left(2048 * 1024, None, 512 * 1024)
    assert left.cgroup == Left(500, 100, 30, "/a/b")
    assert (left.available_bytes, left.most_bytes) == (100, 530)
    assert memory_left("/a", meminfo, (mount,)).cgroup == Left(500, None, None, "/a")


@pytest.mark.parametrize("path", ["/../..", "/a/../../etc", "/gone", "/", "", None, "/a\0b"])
def test_a_cgroup_that_cannot_be_read_has_no_limit(tmp_path: Path, path: str | None) -> None:
    left = memory_left(path, tmp_path / "gone", (mounted(tmp_path),))
    assert left == MemoryLeft(Left())


def test_a_table() -> None:
    redis, child = process(1, "redis-server"), process(23, "redis-rdb-bgsave", parent=1)
    now = replace(
        snapshot(redis, child, at=3),
        generations=(
            fork(1, 1, 22, at=0.5, by_parent=7, ended=1.5),
            fork(2, 1, 23, at=1, by_parent=25_600, shareable=51_200),
        ),
    )
    left = MemoryLeft(Left(GIB, None, 0), Left(80 * MIB, 80 * MIB, None, "/redis.service"))
    outlooks = {
        1: Outlook(of_ended(7 * PAGE), left, None),
        2: Outlook(MADE, left, Verdict(Fit.FITS, Fit.KILLS)),
    }
    shown = view(now, fork_rows([now], None), outlooks, {1: (7 * PAGE, 5 * PAGE)}, 20, {})
    assert (
        text(shown)
        == """\
                                      TOTAL    TOTAL   TOTAL   ENDS LEVELS
PROCESS                 AGE  COPIED     LOW EXPECTED    HIGH     IN OFF IN  FITS
1 redis-server
├─22 ?†                1.0s 28.0KiB 28.0KiB  28.0KiB 28.0KiB      -      -     -
└─23 redis-rdb-bgsa…   2.0s  100MiB  150MiB   171MiB  190MiB  42.0s  23.0s   no?
TOTAL: copied by the end of the child; between LOW and HIGH in 8 of 10 forks
left: 1.00GiB of the machine
left: 80.0MiB to memory.high, 80.0MiB to memory.max of /redis.service
leave 28.0KiB free for the next fork of 1: 28.0KiB, 20.0KiB so far
plan kprobe, kernel 6.12.43+deb13-cloud-amd64, 3.0 s: 2 of 2 forks, 1 alive
unclassified 0, lost 0; † exited
"""
    )


def at(seconds: float) -> Snapshot:
    pages = round(1009 * seconds)
    return replace(
        snapshot(process(1, "redis-server"), process(2, "child", parent=1), at=1 + seconds),
        generations=(fork(1, 1, 2, at=1, by_parent=pages, shareable=20_011), fork(2, 8, 9)),
    )


Command = Callable[..., Result]


@pytest.fixture
def cowtrace(monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*arguments: str) -> Result:
        live = FakeTracer(*(at(seconds) for seconds in (1, 2, 3, 4)))
        monkeypatch.setattr(tracer, "attach", lambda plan="auto", **options: live)
        return CliRunner().invoke(main, arguments)

    return run


def test_forks_with_a_forecast(cowtrace: Command) -> None:
    shown = cowtrace("forks", "--forecast", "0.05", "3").stdout
    assert "EXPECTED" in shown
    assert "2 of 2 forks" in shown


def test_the_objects_keep_to_the_schema(cowtrace: Command) -> None:
    lines = cowtrace("forks", "--forecast", "--json", "0.05", "3").stdout.splitlines()
    found = [json.loads(line) for line in lines]
    for each in found:
        jsonschema.validate(each, schema.of("forks"))
    forecasts = [each["generations"][0]["forecast"] for each in found]
    assert forecasts[0] is None  # one look is no curve
    made = forecasts[2]
    assert made["low_bytes"] <= made["expected_bytes"] <= made["high_bytes"] <= 20_011 * PAGE
    assert made["to_come_bytes"] == made["expected_bytes"] - 3027 * PAGE
    assert found[2]["generations"][1]["forecast"] is None  # nothing is copied


def test_progress_is_for_one_process(cowtrace: Command) -> None:
    for wrong in (["forks", "--progress", "true"], ["forks", "--forecast", "--progress", "true"]):
        assert cowtrace(*wrong).exit_code == EXIT_USAGE


def test_watch_ends_when_the_condition_holds(cowtrace: Command) -> None:
    ended = cowtrace(
        "watch", "--when", "copied > 2000 KiB and forecast > 0 and forecasts >= forecast", "0.05"
    )
    assert ended.exit_code == 0, ended.output
    (line,) = map(json.loads, ended.stdout.splitlines())
    jsonschema.validate(line, schema.of("watch"))
    assert line["values"].keys() == NAMES.keys()
    assert line["values"]["copied"] == 2018 * PAGE
    assert line["generation"]["child"] == 2


def test_watch_gives_up(cowtrace: Command) -> None:
    ended = cowtrace("watch", "--when", "copied > 1 TiB", "--for", "0.2", "0.05")
    assert (ended.exit_code, ended.stdout) == (EXIT_TIMEOUT, "")


def test_watch_runs_a_command(cowtrace: Command, tmp_path: Path) -> None:
    ended = cowtrace("watch", "--when", "copied > 0B", "--run",
                     f"cat > {tmp_path / 'line'}; exit 23", "0.05")  # fmt: skip
    assert ended.exit_code == 23
    assert json.loads((tmp_path / "line").read_text())["when"] == "copied > 0B"


VALUES: dict[str, int | None] = {**dict.fromkeys(NAMES, 1000), "forecast": None, "available": 2000}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("copied < available", True),
        ("copied > available", False),
        ("copied >= 50% available", True),
        ("copied > 50 % available", False),
        ("copied > 1KiB", False),
        ("1K > copied", True),
        ("available > 1.5 K and copied >= 1000B", True),
        ("available > 1.5K and copied > 1000B", False),
        ("forecast < available", False),  # not known
        ("forecast >= 0B", False),
    ],
)
def test_conditions(condition: str, holds: bool) -> None:
    assert parse(condition).holds(VALUES) is holds


@pytest.mark.parametrize(
    "condition",
    ["", "copied", "copied > ", "> 1", "a > b", "copied > forcast", "copied > 5 bananas",
     "5 MiB copied > 1", "copied > 1 > 2", "copied > 50%", "copied == 1", "and", "copied\0 > 1",
     "copied > 99999999999999999999"],
)  # fmt: skip
def test_conditions_that_are_none(condition: str) -> None:
    with pytest.raises(CowtraceError) as error:
        parse(condition)
    assert error.value.exit_code == EXIT_USAGE


def test_a_name_that_is_nearly_one() -> None:
    with pytest.raises(CowtraceError) as error:
        parse("forcast > available")
    assert "did you mean forecast?" in error.value.hint


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("0.25", (0.25, None)),
        (" 1 23 45", (1.0, 23.0)),
        ("0", (0.0, None)),
        ("1.01", None),
        ("-0.1", None),
        ("nan", None),
        ("0.5 inf", None),
        ("half", None),
        ("", None),
    ],
)
def test_progress_lines(line: str, found: tuple[float, float | None] | None) -> None:
    made = parsed(line)
    assert (made and (made.done, made.work)) == found


def latest(hook: ProgressHook) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := hook.latest():
            return found
        time.sleep(0.01)
    raise AssertionError("the command did not answer")


def test_a_command_is_asked_for_progress() -> None:
    found = latest(ProgressHook("echo 0.5 23", 0.01))
    assert (found.done, found.work) == (0.5, 23)


def test_a_command_that_does_not_end_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Its output is bounded, and what is no number is reported once."""
    hook = ProgressHook("head -c 100000 /dev/zero; echo; echo 1e9; exit 3", 0.01)
    deadline = time.monotonic() + 60
    while "not a number" not in capsys.readouterr().err and time.monotonic() < deadline:
        assert hook.latest() is None
        assert len(hook._rest) <= 256
    assert time.monotonic() < deadline
