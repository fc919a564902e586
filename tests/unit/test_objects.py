"""`cowtrace objects`: rows of causes, types and phases, what would avoid them, and the table."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len
from snapshots import PAGE, FakeTracer, detail, process, row, snapshot, text

from cowtrace import tracer
from cowtrace.analysis.objects import ObjectRow, Remedy, known_bytes, object_rows, remedies
from cowtrace.cli import main
from cowtrace.machine import detail_objects
from cowtrace.model import Completeness, DetailRow, FaultKind, Phase, Snapshot, WriteCause, Written
from cowtrace.terminal.objects import view

ME = os.getpid()
COUNT, LINKS, DATA = WriteCause.REFERENCE_COUNT, WriteCause.GC_HEADER, WriteCause.OBJECT_DATA
EVIL = "evil\x1b[2J\u202e.\N{HEBREW LETTER ALEF}" + "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 60


def made(
    cause: WriteCause, name: str | None = None, phase: Phase | None = Phase.RUNNING, pages: int = 1
) -> ObjectRow:
    return ObjectRow(cause, name, phase, pages, pages * PAGE)


def copied(
    cause: WriteCause,
    name: str | None = None,
    phase: Phase | None = Phase.RUNNING,
    *,
    pages: int = 1,
    pid: int = ME,
) -> DetailRow:
    return detail(pid, faults=pages, written=Written(cause, name, phase))


def test_rows_are_summed_over_processes_the_largest_first() -> None:
    found = object_rows(
        [
            copied(DATA, "dict", pages=5),
            copied(COUNT, "int", pages=7, pid=1),
            copied(COUNT, "int", pages=11, pid=2),
            copied(COUNT, "int", Phase.COLLECTING_2, pages=13),
            detail(faults=23),  # not looked at
        ]
    )
    assert found == (
        made(COUNT, "int", pages=18),
        made(COUNT, "int", Phase.COLLECTING_2, pages=13),
        made(DATA, "dict", pages=5),
    )


def test_rows_of_one_size_have_an_order() -> None:
    rows = [
        copied(COUNT, "b"),
        copied(WriteCause.STACK, None, None),
        copied(COUNT, "a", None),
        copied(COUNT, "a", Phase.IMPORTING),
        copied(COUNT, None),
    ]
    names = [(each.cause, each.type, each.phase) for each in object_rows(rows)]
    assert names == [
        (COUNT, None, Phase.RUNNING),
        (COUNT, "a", None),
        (COUNT, "a", Phase.IMPORTING),
        (COUNT, "b", Phase.RUNNING),
        (WriteCause.STACK, None, None),
    ]
    assert object_rows(reversed(rows)) == object_rows(rows)


def test_bytes_without_a_cause_are_not_known() -> None:
    assert known_bytes([made(COUNT, pages=7), made(WriteCause.UNKNOWN, pages=5)]) == 7 * PAGE
    assert known_bytes([]) == 0


def of(rows: list[ObjectRow]) -> dict[str, int]:
    """The pages that each change avoids, in their order."""
    return {each.change: each.bytes // PAGE for each in remedies(rows)}


def test_what_avoids_each_cause() -> None:
    freeze, leave, off = "gc.freeze() before the fork", "os._exit() in workers", "gc.disable()"
    off += " in children"
    assert of([made(LINKS, "dict", Phase.COLLECTING_2, 7)]) == {freeze: 7}
    assert of(
        [made(LINKS, "dict", Phase.COLLECTING, 7), made(COUNT, "dict", Phase.COLLECTING)]
    ) == {
        off: 8,
        freeze: 7,
    }
    assert of([made(LINKS, "dict", Phase.RUNNING, 7)]) == {}
    assert of([made(DATA, "dict", Phase.SHUTTING_DOWN, 7)]) == {leave: 7}
    assert of([made(DATA, "dict", pages=7), made(WriteCause.MALLOC, None, None, 5)]) == {}


def test_reference_counts_of_numbers_and_of_all_other_types() -> None:
    numbers, records = "arrays (array, numpy) of numbers", "records in arrays or a file"
    rows = [
        made(COUNT, "int", pages=7),
        made(COUNT, "str", pages=5),
        made(COUNT, "code", pages=6),  # every program has them
        made(COUNT, "shop.Item", pages=3),
        made(COUNT, "shop.Item", None, 2),
        made(COUNT, "shop.Order", pages=4),
        made(COUNT, "shop.Order", Phase.COLLECTING_0, 90),  # which gc.disable() avoids
        made(COUNT, "shop.Order", Phase.SHUTTING_DOWN, 91),
        made(COUNT, None, pages=50),
    ]
    found = of(rows)
    assert (found[numbers], found[records]) == (7, 9)  # no array holds a str

    def named() -> str:
        (item,) = (each for each in remedies(rows) if each.change == records)
        return item.of

    assert named() == "counts of shop.Item, shop.Order"
    rows += [made(COUNT, "dict", pages=3), made(COUNT, "set", pages=2)]
    assert of(rows)[records] == 14
    assert named() == "counts of shop.Item, shop.Order, 2 more"


def test_free_memory_and_objects_that_are_immortal_later() -> None:
    free, later = "gc.disable() until the fork", "CPython 3.12 or later"
    rows = [
        made(WriteCause.ALLOCATOR, "dict", pages=7),
        made(WriteCause.ARENA, None, None, pages=5),
        made(WriteCause.ALLOCATOR, None, Phase.SHUTTING_DOWN, pages=50),  # it frees, and fills none
        made(COUNT, "NoneType", pages=3),
        made(COUNT, "bool", pages=2),
        made(DATA, "NoneType", pages=23),
    ]
    found = of(rows)
    assert (found[free], found[later]) == (12, 5)


def test_changes_of_little_effect_are_left_out() -> None:
    def found(pages: int) -> dict[str, int]:
        rows = [made(DATA, "dict", pages=1000 - pages), made(COUNT, "int", pages=pages)]
        return of(rows)

    assert list(found(10).values()) == [10]
    assert found(9) == {}
    assert remedies([]) == ()
    assert of([ObjectRow(COUNT, "int", Phase.RUNNING, 0, 0)]) == {}


def test_the_best_change_comes_first() -> None:
    rows = [
        made(LINKS, "dict", Phase.COLLECTING_2, 5),
        made(DATA, "dict", Phase.SHUTTING_DOWN, 7),
        made(COUNT, "int", pages=11),
    ]
    assert list(of(rows).values()) == [11, 7, 5]


def shown(rows: tuple[ObjectRow, ...], limit: int = 20, **fields: Any) -> list[str]:
    now = replace(snapshot(process()), **fields)
    lines = text(view(now, rows, remedies(rows), limit)).splitlines()
    assert all(cell_len(line) <= 80 for line in lines), lines
    return lines


def test_the_table() -> None:
    rows = object_rows(
        [
            copied(COUNT, "shop.Item", pages=700),
            copied(LINKS, "dict", Phase.COLLECTING_2, pages=200),
            copied(WriteCause.ALLOCATOR, None, Phase.SHUTTING_DOWN, pages=90),
            copied(WriteCause.UNKNOWN, None, None, pages=10),
        ]
    )
    lines = shown(rows)
    assert lines[0].split() == ["BYTES", "WRITTEN", "TYPE", "PHASE"]
    cells = [line.split() for line in lines[1:5]]
    assert cells[0] == ["2.73MiB", "70.0%", "reference", "count", "shop.Item", "running"]
    assert cells[1] == ["800KiB", "20.0%", "GC", "header", "dict", "collecting,", "gen", "2"]
    assert cells[2][2:] == ["free", "list", "or", "allocator", "-", "shutting", "down"]
    assert cells[3][1:] == ["1.0%", "unknown", "-", "-"]
    assert lines[5:9] == [
        "What would avoid copies, at most:",
        " 2.73MiB  records in arrays or a file: counts of shop.Item",
        "  800KiB  gc.freeze() before the fork: GC headers that a collection writes",
        "  360KiB  os._exit() in workers: all that shutting down writes",
    ]
    assert lines[-1] == "3.91 MiB in 1,000 copies, 99.0% of the bytes have a cause"
    assert "4 of 4 rows" in lines[-3]


def test_a_limit_and_what_the_rows_beyond_it_sum_to() -> None:
    rows = tuple(made(COUNT, f"shop.Item{number}", pages=100 - number) for number in range(23))
    lines = shown(rows, limit=5)
    assert sum("reference count " in line for line in lines) == 5
    assert any("5 of 23 rows" in line for line in lines)
    assert f"in {sum(row.faults for row in rows):,} copies" in lines[-1]


def test_all_causes_and_phases_fit() -> None:
    rows = tuple(
        made(cause, "package.module.Class", phase, 100_000_000)
        for cause in WriteCause
        for phase in (*Phase, None)
    )
    lines = shown(rows, limit=len(rows))
    assert all(any(cause.value in line for line in lines) for cause in WriteCause)
    assert all(any(phase.value in line for line in lines) for phase in Phase)
    assert not any("…" in line for line in lines if "package.module.Class" in line)


def test_names_that_a_process_chose_do_not_act_on_the_terminal() -> None:
    rows = (made(COUNT, EVIL, pages=7), made(COUNT, "[red]x[/red]", pages=5))
    lines = shown(rows)
    everything = "\n".join(lines)
    assert "\x1b" not in everything
    assert "\u202e" not in everything
    assert "\N{HEBREW LETTER ALEF}" not in everything
    assert "[red]x[/red]" in everything
    advice = [line for line in lines if "counts of evil" in line]
    assert len(advice) == 1
    assert advice[0].endswith("…")


def test_nothing_copied_yet() -> None:
    lines = shown(())
    assert not any("avoid" in line for line in lines)
    assert lines[-1] == "0 in 0 copies"


def test_without_a_cpython_the_table_says_so() -> None:
    assert "no CPython was found" in shown((made(WriteCause.MALLOC, None, None),))[-1]
    mixed = (made(WriteCause.MALLOC, None, None), made(COUNT, "int"))
    assert "no CPython was found" not in shown(mixed)[-1]


def test_samples_that_were_lost_are_shown() -> None:
    lost = Completeness(lost=0, detail=(("samples dropped", 23),))
    assert any("samples dropped 23" in line for line in shown((made(COUNT),), completeness=lost))


Command = Callable[..., Result]


@pytest.fixture
def asked() -> dict[str, Any]:
    return {}


@pytest.fixture
def cowtrace(monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]) -> Command:
    def at(seconds: float, pages: int) -> Snapshot:
        return replace(
            snapshot(
                process(ME, "gunicorn", row(FaultKind.COPIED, pages)),
                process(2, "worker", row(FaultKind.COPIED, 7), parent=ME),
                at=seconds,
            ),
            samples=(
                copied(COUNT, "shop.Item", pages=pages),
                copied(WriteCause.STACK, None, None, pages=7, pid=2),
            ),
        )

    def run(*arguments: str) -> Result:
        live = FakeTracer(at(1, 23), at(2, 503))

        def attach(plan: str = "auto", **options: Any) -> FakeTracer:
            asked.update(options, plan=plan)
            return live

        monkeypatch.setattr(tracer, "attach", attach)
        result = CliRunner().invoke(main, ["objects", *arguments])
        assert result.exit_code == 0, result.output
        assert live.closed
        return result

    return run


def test_the_command_shows_sums_since_its_start(cowtrace: Command, asked: dict[str, Any]) -> None:
    first, second = cowtrace("0.05", "2").stdout.split("\n\n")
    assert " 92.0KiB 76.7% reference count" in first
    assert "records in arrays or a file: counts of shop.Item" in first
    assert " 1.96MiB 98.6% reference count" in second
    assert asked["objects"]
    assert asked["plan"] == "auto"
    assert "2 of 2 rows" in second


def test_the_command_of_one_process(cowtrace: Command, asked: dict[str, Any]) -> None:
    found = cowtrace("-p", str(ME), "0.05", "1").stdout
    assert "reference count" in found
    assert "1 of 1 rows" in found
    assert asked["only"].pids == (ME,)


def test_rows_of_different_mappings_are_one_for_machines() -> None:
    rows = [copied(COUNT, "int", pages=n, pid=2) for n in (3, 5)]
    rows.insert(1, copied(COUNT, "str", pages=23))
    found = detail_objects.written(rows, ())["objects"]
    assert [(each["pid"], each["type"], each["faults"]) for each in found] == [
        (ME, "str", 23),
        (2, "int", 8),
    ]


def test_the_command_writes_rows_by_process(cowtrace: Command) -> None:
    _, second = map(json.loads, cowtrace("--json", "0.05", "2").stdout.splitlines())
    assert second["sampled"]
    first, last = second["objects"]
    assert first["pid"] == ME
    assert (first["cause"], first["type"], first["phase"]) == (
        *("reference count", "shop.Item", "running"),
    )
    assert first["copied_bytes"] == 503 * PAGE
    assert (last["pid"], last["type"], last["phase"], last["faults"]) == (2, None, None, 7)
    (change,) = second["avoidable"]
    assert change == {
        "change": "records in arrays or a file",
        "of": "counts of shop.Item",
        "at_most_bytes": 503 * PAGE,
    }


def test_the_command_has_a_limit(cowtrace: Command) -> None:
    found = cowtrace("--rows", "1", "0.05", "1").stdout
    assert "1 of 2 rows" in found
    assert " stack " not in found


def test_a_remedy_is_of_bytes() -> None:
    assert remedies([made(COUNT, "int", pages=3)]) == (
        Remedy("arrays (array, numpy) of numbers", "counts of numbers", 3 * PAGE),
    )
