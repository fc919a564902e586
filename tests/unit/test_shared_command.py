"""`cowtrace shared`: its tables, its JSON, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from schema_checks import check

from cowtrace import cli, proc
from cowtrace.analysis.shared import Holder, Sharing
from cowtrace.analysis.shared_mappings import MappingShare
from cowtrace.cli import shared as command
from cowtrace.cli.choice import Choice
from cowtrace.cli.chosen import Chosen
from cowtrace.errors import CowtraceError
from cowtrace.html import sharing_page
from cowtrace.terminal import plain
from cowtrace.terminal.shared import view

MIB = 1 << 20
FOUND = Sharing(
    holders=(
        Holder(11, 3 * MIB, 96 * MIB, 0, 5 * MIB, 0),
        Holder(12, 17 * MIB, 88 * MIB, 4096, 2 * MIB, 0),
        Holder(13, 509 * MIB, 8 * MIB, 0, 2 * MIB, 23 * MIB),
    ),
    pairs={(11, 12): 88 * MIB, (11, 13): 8 * MIB, (12, 13): 0},
    by_holders=(529 * MIB + 4096, 96 * MIB, 0),
    ended=(14,),
    changed=7,
    unread=0,
    at_ns=509,
    seconds=0.0123,
)
SHARES = (
    MappingShare(11, "[anon]", MIB, 90 * MIB, 0),
    MappingShare(11, "[heap]", 2 * MIB, 6 * MIB, 0),
    MappingShare(12, "[heap]", 17 * MIB, 88 * MIB, 4096),
    *(MappingShare(13, f"lib\x1b{number}", number * MIB, 0, 0) for number in range(23)),
)
NAMES = {11: "gunicorn", 12: "worker \x1b[2J", 13: "a" * 40, 14: "gone"}


def drawn(found: Sharing, width: int = 80) -> list[str]:
    made = view(found, NAMES)
    return plain.lines(made.draw(made.rows, width), width)


def test_the_tables() -> None:
    assert drawn(FOUND) == [
        "                           FREED      IN    WITH",
        "    PID COMM             BY EXIT  COMMON  OTHERS   FILES SWAPPED",
        "     11 gunicorn         3.00MiB 96.0MiB       0 5.00MiB       0",
        r"     12 worker \x1b[2J   17.0MiB 88.0MiB 4.00KiB 2.00MiB       0",
        "     13 aaaaaaaaaaaaaaa… 509MiB  8.00MiB       0 2.00MiB 23.0MiB".replace(
            "… 509MiB ", "…  509MiB"
        ),
        "",
        "    PID IN COMMON WITH        11      12      13",
        "     11 gunicorn                 88.0MiB 8.00MiB",
        r"     12 worker \x1b[2J   88.0MiB               0",
        "     13 aaaaaaaaaaaaaaa… 8.00MiB       0",
        "3 of 3 processes shown; 625MiB of anonymous memory, each page once: 529MiB",
        "mapped by 1, 96.0MiB by 2",
        "read in 0.01 s; pages that changed meanwhile: 7",
        "ended meanwhile: 14",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_it_fits(width: int) -> None:
    assert max(map(len, drawn(FOUND, width))) <= width


def test_mappings_take_the_place_of_pairs() -> None:
    lines = drawn(replace(FOUND, mappings=SHARES))
    assert lines[6:11] == [
        "                                                           FREED      IN    WITH",
        "    PID MAPPING                                          BY EXIT  COMMON  OTHERS",
        "     11 [anon]                                           1.00MiB 90.0MiB       0",
        "     11 [heap]                                           2.00MiB 6.00MiB       0",
        "     12 [heap]                                           17.0MiB 88.0MiB 4.00KiB",
    ]
    of_13 = [text.split() for text in lines if text.startswith("     13 lib")]
    assert of_13 == [["13", rf"lib\x1b{n}", f"{n}.0MiB", "0", "0"] for n in range(22, 17, -1)]


def test_one_process_has_no_table_of_pairs() -> None:
    alone = Sharing((FOUND.holders[0],), {}, (3 * MIB,), (), None, 23 << 40, 509, 0.5)
    assert drawn(alone)[3:] == [
        "1 of 1 processes shown; 3.00MiB of anonymous memory, each page once: 3.00MiB",
        "mapped by 1",
        "read in 0.50 s; pages that changed meanwhile: -",
        "sparse mappings that were not read: 23.0TiB",
    ]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(pids: Sequence[int], *, mappings: bool) -> Sharing:
        assert list(pids) == [11, 12, 13]
        return replace(FOUND, mappings=SHARES) if mappings else FOUND

    monkeypatch.setattr(command, "read", read)
    monkeypatch.setattr(proc, "comm", NAMES.__getitem__)
    monkeypatch.setattr(command, "confine", lambda map_fd, needs: None)
    monkeypatch.setattr(proc, "has_memory", lambda pid: True)
    monkeypatch.setattr(proc, "pids", lambda: {11, 12, 13, 99})
    monkeypatch.setattr(proc, "name", {**NAMES, 99: "other"}.get)
    monkeypatch.setattr(proc, "descendants", lambda roots: {12, 13} if 11 in roots else set())


def run(*arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(cli.main, ["shared", *arguments])
    return ended.exit_code, ended.output


@pytest.mark.usefixtures("system")
def test_json_follows_the_schema() -> None:
    code, output = run("-p", "11", "--follow", "--json", "0.05", "2")
    assert code == 0
    assert check("shared", output.splitlines()) == 2
    found = json.loads(output.splitlines()[0])
    assert found["pairs"][0] == {"pids": [11, 12], "bytes": 88 * MIB}
    assert found["held_by"][1] == {"processes": 2, "bytes": 96 * MIB}


@pytest.mark.usefixtures("system")
def test_csv_has_a_row_for_each_process() -> None:
    code, output = run("-p", "11", "-p", "12", "-p", "13", "--csv")
    assert code == 0
    header, *rows = output.splitlines()
    assert header.startswith("now_ns,pid,comm,freed_by_exit_bytes")
    assert len(rows) == 3


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no process is chosen"),
        (("--follow",), "--follow needs -p"),
        (("--comm", "nothing*"), "none of the chosen"),
    ],
)
def test_what_it_refuses_has_a_hint(arguments: tuple[str, ...], words: str) -> None:
    code, output = run(*arguments)
    assert code != 0
    assert words in output
    assert "Hint: " in output


@pytest.mark.usefixtures("system")
def test_the_page_has_a_heat_map_and_how_sharing_decays(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    page = tmp_path / "page.html"
    code, output = run("-p", "11", "--follow", "--html", str(page), "0.05", "2")
    assert (code, f"wrote {page}" in output) == (0, True)
    text = page.read_text()
    assert "3 processes: 625 MiB of anonymous memory, each page once" in text
    assert "Read 2 times" in text
    assert "worker \x1b" not in text
    heat = sharing_page.heat_map(FOUND, NAMES).data[0]
    assert [*heat.z[0]] == [3 * MIB, 88 * MIB, 8 * MIB]
    later = replace(FOUND, at_ns=FOUND.at_ns + 10**9, by_holders=(600 * MIB, 25 * MIB, 0))
    lines = sharing_page.decay([FOUND, later])
    assert lines is not None
    assert {each.name: each.y for each in lines.data} == {
        "mapped by 2": (96 * MIB, 25 * MIB),
        "mapped by 1": (529 * MIB + 4096, 600 * MIB),
    }
    assert sharing_page.decay([FOUND]) is None


def test_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "has_memory", lambda pid: True)
    monkeypatch.setattr(proc, "name", lambda pid: "many")
    monkeypatch.setattr(proc, "pids", lambda: set(range(129)))
    with pytest.raises(CowtraceError, match="129 processes"):
        Chosen(Choice(comm="m*")).some()


def test_while_it_runs_too_many_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alive = {5000, 6000}
    monkeypatch.setattr(proc, "has_memory", lambda pid: True)
    monkeypatch.setattr(proc, "name", lambda pid: "many")
    monkeypatch.setattr(proc, "pids", lambda: alive)
    chosen = Chosen(Choice(comm="m*"))
    assert [*chosen.some()] == [5000, 6000]
    alive |= {*range(200)}
    assert [*chosen.now()] == [*range(126), 5000, 6000]
    assert "more than 128 processes" in capsys.readouterr().err


def test_the_next_process_of_a_pid_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = {10: 509, 20: 523, 21: 541}
    children = {10: {20}}
    monkeypatch.setattr(proc, "has_memory", lambda pid: True)
    monkeypatch.setattr(proc, "name", str)
    monkeypatch.setattr(proc, "started", starts.get)
    monkeypatch.setattr(
        proc, "descendants", lambda roots: set().union(*(children.get(pid, set()) for pid in roots))
    )
    chosen = Chosen(Choice(names=((10, "a"),), follow=True))
    assert [*chosen.now()] == [10, 20]
    starts[20] = 557
    children.update({10: set(), 20: {21}})
    assert [*chosen.now()] == [10]


@pytest.mark.usefixtures("system")
def test_it_ends_with_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = iter((True, True, True, False, False, False))
    monkeypatch.setattr(proc, "has_memory", lambda pid: next(alive))
    code, output = run("-p", "11", "--follow", "--json", "0.05")
    assert (code, len(output.splitlines())) == (0, 1)


def test_processes_without_memory_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "has_memory", {11: True, 12: False}.__getitem__)
    monkeypatch.setattr(proc, "name", NAMES.get)
    assert Chosen(Choice(names=((11, "gunicorn"), (12, "worker")))).now() == {11: "gunicorn"}
