"""A recording: snapshots in, the same sums out; and every way in which a file can be bad."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies
from snapshots import PAGE, SECOND, calls, detail, fork, mapping, process, row, snapshot

from cowtrace.errors import CowtraceError
from cowtrace.model import (
    UNKNOWN_PLACE,
    Account,
    Cause,
    Completeness,
    DetailRow,
    FaultKind,
    MappingType,
    Origin,
    Phase,
    Place,
    Snapshot,
    Source,
    StackFrame,
    WriteCause,
    Written,
)
from cowtrace.recording import Header, checks, tables, write_details
from cowtrace.recording.reader import read
from cowtrace.recording.tables import VERSION
from cowtrace.recording.write_details import DetailWriter
from cowtrace.recording.writer import NoRoom, Writer

HEADER = Header(
    version="0.1",
    kernel="6.12.43+deb13-cloud-amd64",
    plan="kprobe",
    page_bytes=4096,
    attached_ns=7 * SECOND,
    started_unix_ns=1_795_000_000 * SECOND,
    interval_ns=SECOND,
    command="./job 'a b'",
    unseen=frozenset({FaultKind.SHARED}),
    details=frozenset({"generation", "mapping", "latency", "samples"}),
)
HOSTILE = "\udc80</script>\x1b\0;--'\""


def rich_snapshot(at: float, scale: int) -> Snapshot:
    """Every part of a snapshot, growing with `scale`."""
    heap = mapping(type=MappingType.HEAP, pages=509 + scale)  # it grows, and is still the same
    parent = process(1, "parent", row(FaultKind.COPIED, 23 * scale), start_ns=5)
    child = process(2, HOSTILE, row(FaultKind.COPIED, 11 * scale), parent=1, start_ns=6)
    return replace(
        snapshot(parent, child, at=at, unseen=HEADER.unseen),
        completeness=Completeness(lost=scale, detail=(("slot taken", scale),)),
        details=(
            detail(1, faults=23 * scale, mapping=heap, generation=1, latency=11, ns=2100 * scale),
            detail(2, faults=11 * scale, source=Source.THP, mapping=mapping(HOSTILE)),
        ),
        generations=(fork(by_parent=23 * scale, by_child=11 * scale),),
        samples=(detail(1, faults=scale, user_stack=calls("gc", "main", module=HOSTILE)),),
    )


def write(path: Path, *snapshots: Snapshot, close: bool = True) -> Writer:
    file = Writer(path, HEADER)
    for each in snapshots:
        file.add(each)
    if close:
        file.close()
    return file


def expect(path: Path, message: str) -> None:
    with pytest.raises(CowtraceError, match=message) as raised:
        read(path)
    assert "\n" not in str(raised.value)
    assert raised.value.hint


def test_the_last_sums_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a b?#%.cow"
    last = rich_snapshot(3, 7)
    write(path, rich_snapshot(1, 2), rich_snapshot(2, 2), last)
    found = read(path)
    assert found.header == HEADER
    assert found.closed
    assert found.ended is None
    assert found.times == tuple(each * SECOND for each in (8, 9, 10))
    shown = HOSTILE.replace("\udc80", "\\udc80")
    child = replace(last.processes[1], comm=shown)
    assert found.last.processes == tuple(
        replace(p, unseen=HEADER.unseen) for p in (last.processes[0], child)
    )
    assert found.last.completeness == last.completeness
    assert found.last.generations == last.generations
    assert [dataclasses.astuple(d)[9:] for d in found.last.details] == [
        dataclasses.astuple(d)[9:] for d in last.details
    ]
    assert found.last.details[0].mapping == last.details[0].mapping
    assert found.last.details[0].generation == 1
    (sample,) = found.last.samples
    assert [frame.symbol for frame in sample.user_stack or ()] == ["gc", "main"]
    assert not list(tmp_path.glob("*-wal"))


@hypothesis.given(
    strategies.lists(
        strategies.lists(strategies.integers(-3, 999), min_size=3, max_size=3),
        min_size=1,
        max_size=9,
    )
)
def test_what_came_in_each_interval_adds_up(
    tmp_path_factory: pytest.TempPathFactory, changes: list[list[int]]
) -> None:
    path = tmp_path_factory.mktemp("recording") / "file"
    file = Writer(path, HEADER)
    sums = [0, 0, 0]
    for at, each in enumerate(changes, 1):
        sums = [a + b for a, b in zip(sums, each, strict=True)]
        copied, reused, other = sums
        file.add(
            snapshot(
                process(1, "a", row(FaultKind.COPIED, copied), row(FaultKind.REUSED, reused)),
                process(2, "b", row(FaultKind.COPIED, other, Source.KSM)),
                at=at,
            )
        )
    file.close()
    found = read(path)
    assert [found.last.processes[0].count(k) for k in (FaultKind.COPIED, FaultKind.REUSED)] == [
        sums[0],
        sums[1],
    ]
    assert found.last.processes[1].count(FaultKind.COPIED) == sums[2]
    by_process = [sum(p.faults for p in found.points if p.process == n) for n in (0, 1)]
    assert by_process == [sums[0] + sums[1], sums[2]]


def test_a_pid_that_came_back_is_another_process(tmp_path: Path) -> None:
    old = process(5, "old", row(FaultKind.COPIED, 23), start_ns=1, exited=True)
    new = process(5, "new", row(FaultKind.COPIED, 11), start_ns=2)
    write(tmp_path / "f", snapshot(old), snapshot(old, new, at=2))
    assert [p.comm for p in read(tmp_path / "f").last.processes] == ["old", "new"]


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        file = write(tmp_path / "f", rich_snapshot(1, 1), close=False)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        file.close()
    finally:
        os.umask(mask)
    assert modes == {0o600}


def test_what_is_there_is_not_replaced_unless_forced(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(target)
    for path in (target, link):
        with pytest.raises(CowtraceError, match="is there already"):
            Writer(path, HEADER)
    with pytest.raises(CowtraceError, match="is there already"):
        Writer(link, HEADER, force=True)
    assert target.read_text() == "precious"
    Writer(target, HEADER, force=True).close()
    assert read(target).times == ()
    with pytest.raises(CowtraceError, match="cannot write"):
        Writer(tmp_path / "no" / "file", HEADER)


def test_what_is_being_recorded_to_is_not_replaced_by_force(tmp_path: Path) -> None:
    path = tmp_path / "f"
    first = write(path, rich_snapshot(1, 2), close=False)
    with pytest.raises(CowtraceError, match="is being recorded to"):
        Writer(path, HEADER, force=True)
    first.add(rich_snapshot(2, 3))
    first.close()
    assert read(path).last.processes[0].count(FaultKind.COPIED) == 69
    Writer(path, HEADER, force=True).close()


def test_the_memory_that_was_left_comes_back(tmp_path: Path) -> None:
    file = Writer(tmp_path / "f", HEADER)
    file.add(rich_snapshot(1, 1), 23 << 30)
    file.add(rich_snapshot(2, 2))
    file.close()
    assert read(tmp_path / "f").available == (23 << 30, None)


def test_where_processes_ran_comes_back_as_it_was_last_known(tmp_path: Path) -> None:
    known = {1: Place(1, "/a"), 2: Place(7, HOSTILE)}
    file = Writer(tmp_path / "f", HEADER)
    file.add(rich_snapshot(1, 1), place_of=lambda process: known.get(process.pid, UNKNOWN_PLACE))
    known[1] = Place(1, "/b")
    file.add(rich_snapshot(2, 2), place_of=lambda process: known.get(process.pid, UNKNOWN_PLACE))
    file.close()
    hostile = HOSTILE.encode(errors="backslashreplace").decode()
    assert read(tmp_path / "f").places == (Place(1, "/b"), Place(7, hostile))


FORK_COST = (*("fork_ns", "lock_ns", "page_table_bytes", "fork_copied_bytes", "first_second_ns"),)


def without_fork_cost(database: sqlite3.Connection) -> None:
    """As schema 5 was."""
    for column in FORK_COST:
        database.execute(f"ALTER TABLE generation DROP COLUMN {column}")


def without_writes(database: sqlite3.Connection) -> None:
    """As schema 4 was."""
    without_fork_cost(database)
    database.execute("ALTER TABLE frame DROP COLUMN line")
    for column in ("cause", "type", "phase"):
        database.execute(f"ALTER TABLE detail DROP COLUMN {column}")


def make_old(database: sqlite3.Connection) -> None:
    """As schema 2 was."""
    without_writes(database)
    for table in ("account_cause", "account"):
        database.execute(f"DROP TABLE {table}")
    for column in ("nspid", "cgroup"):
        database.execute(f"ALTER TABLE process DROP COLUMN {column}")


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    now = rich_snapshot(1, 2)
    counts = Written(WriteCause.REFERENCE_COUNT, HOSTILE, Phase.COLLECTING_1)
    unknown = Written(WriteCause.STACK, None, None)
    line = (StackFrame("py::f:/srv/shop.py", "", 0x7F00, 503),)
    rows = [replace(now.samples[0], written=each, user_stack=line) for each in (counts, unknown)]
    write(tmp_path / "f", replace(now, samples=tuple(rows)))
    first, second = read(tmp_path / "f").last.samples
    assert first.written
    assert first.written.type == HOSTILE.encode(errors="backslashreplace").decode()
    assert replace(first.written, type=HOSTILE) == counts
    assert second.written == unknown
    assert first.user_stack == line
    with sqlite3.connect(tmp_path / "f") as database:
        without_writes(database)
        database.execute("PRAGMA user_version = 4")
    (first, second) = read(tmp_path / "f").last.samples
    assert first.written is second.written is None
    assert first.user_stack == (replace(line[0], line=None),)


def test_what_a_fork_cost_comes_back(tmp_path: Path) -> None:
    cost: dict[str, Any] = {name: 1 << 20 | number for number, name in enumerate(FORK_COST)}
    early = fork(**cost | {"first_second_ns": 0})
    made = (fork(**cost), fork(2))
    first = replace(rich_snapshot(1, 2), generations=(early,))
    write(tmp_path / "f", first, replace(rich_snapshot(2, 2), generations=made))
    assert read(tmp_path / "f").last.generations == made
    with sqlite3.connect(tmp_path / "f") as database:
        without_fork_cost(database)
        database.execute("PRAGMA user_version = 5")
    assert read(tmp_path / "f").last.generations == (fork(), fork(2))


def test_private_memory_comes_back(tmp_path: Path) -> None:
    accounts = (
        Account(7, "a", True, 509, 2003, 3, -5, 11, 13, 17, {Cause.TOUCHED: 23},
                {Cause.REPLACED: 0, Cause.FROM_FILE: 29, Cause.ZERO_FILLED: 31}),
        Account(8, HOSTILE),
    )  # fmt: skip
    write(tmp_path / "f", replace(rich_snapshot(1, 2), accounts=accounts))
    first, second = read(tmp_path / "f").last.accounts
    assert (first, first.rows) == (accounts[0], accounts[0].rows)
    assert second.comm == HOSTILE.encode(errors="backslashreplace").decode()
    assert second.traced is None


def test_a_recording_of_schema_2_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write(path, rich_snapshot(1, 2))
    with sqlite3.connect(path) as database:
        make_old(database)
        database.execute("PRAGMA user_version = 2")
    found = read(path)
    assert found.place(0) == found.place(1) == UNKNOWN_PLACE
    assert found.last.processes[0].count(FaultKind.COPIED) == 46


def test_a_recording_of_schema_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write(path, rich_snapshot(1, 2))
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE interval DROP COLUMN available_bytes")
        make_old(database)
        database.execute("DELETE FROM meta WHERE name = 'asked'")
        database.execute("PRAGMA user_version = 1")
    found = read(path)
    assert found.available == (None,)
    assert found.header == HEADER
    assert found.last.processes[0].count(FaultKind.COPIED) == 46


def test_faults_of_an_unknown_process_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write(path, rich_snapshot(1, 2))
    for number in (3, 0, -1):
        with sqlite3.connect(path) as database:
            database.execute("UPDATE series SET process = ? WHERE id = 1", (number,))
        expect(path, "is damaged: faults of a process that is not in it")


def test_it_is_read_while_it_is_written_and_when_nobody_closed_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    file = write(path, rich_snapshot(1, 2), close=False)
    found = read(path)
    assert not found.closed
    assert found.last.processes[0].count(FaultKind.COPIED) == 46
    file.add(rich_snapshot(2, 3))
    assert read(path).last.processes[0].count(FaultKind.COPIED) == 69
    file.close()


def test_files_that_are_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "f\x1b"
    expect(path, "no such recording")
    expect(tmp_path, "is not read: it is not a regular file")
    path.write_bytes(b"")
    expect(path, "is no recording")
    path.write_bytes(b"\x7fELF" * 999)
    expect(path, "is no recording")
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE meta (name, value)")
    expect(path, "is no recording")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write(path, rich_snapshot(1, 1))
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    expect(path, f"has schema {VERSION + 1}, this cowtrace knows up to {VERSION}")


def test_no_truncation_passes_for_a_whole_file(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    write(whole, *(rich_snapshot(at, at) for at in range(1, 50)))
    content = whole.read_bytes()
    cut = tmp_path / "cut"
    for size in {*range(0, len(content), 4096), *range(1, len(content), 1531)}:
        cut.write_bytes(content[:size])
        expect(cut, "is damaged|is no recording")


def test_no_damage_ends_in_a_traceback(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    write(whole, *(rich_snapshot(at, at) for at in range(1, 20)))
    content = whole.read_bytes()
    broken = tmp_path / "broken"
    for at, byte in itertools.product(range(100, len(content), 997), (0, 0xFF)):
        broken.write_bytes(content[:at] + bytes([byte]) * 16 + content[at + 16 :])
        with contextlib.suppress(CowtraceError):  # what else it raises is a failure
            read(broken)


def test_faults_that_differ_in_source_origin_or_actor_stay_apart(tmp_path: Path) -> None:
    one = row(FaultKind.COPIED, 23)
    rows = (
        one,
        replace(one, source=Source.KSM, faults=11),
        replace(one, origin=Origin.KERNEL, faults=7),
        replace(one, origin=Origin.REMOTE, actor=8, faults=5),
        replace(one, origin=Origin.REMOTE, actor=9, faults=3),
    )
    write(tmp_path / "f", snapshot(process(1, "a", *rows)))
    (found,) = read(tmp_path / "f").last.processes
    assert set(found.rows) == set(rows)


def test_a_process_is_as_it_was_last(tmp_path: Path) -> None:
    first = process(1, "before", row(FaultKind.COPIED, 1))
    last = process(1, "after", row(FaultKind.COPIED, 2), exited=True)
    write(tmp_path / "f", snapshot(first, at=1), snapshot(last, at=2))
    (found,) = read(tmp_path / "f").last.processes
    assert (found.comm, found.exited) == ("after", True)


def test_times_of_two_processes_of_one_pid_add_up(tmp_path: Path) -> None:
    alike = [detail(1, faults=1, latency=11, ns=ns) for ns in (2100, 2300)]
    write(tmp_path / "f", replace(snapshot(process(1)), details=tuple(alike)))
    (found,) = read(tmp_path / "f").last.details
    assert (found.faults, found.ns) == (2, 4400)


def test_an_interval_that_found_no_room_is_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Writer(tmp_path / "f", HEADER)
    file.add(rich_snapshot(1, 1))

    def full(self: object, now: Snapshot) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(DetailWriter, "add", full)
    with pytest.raises(NoRoom):
        file.add(rich_snapshot(2, 2))
    found = read(tmp_path / "f")
    assert found.times == (8 * SECOND,)
    assert found.last.processes[0].count(FaultKind.COPIED) == 23
    assert found.ended == "no room: database or disk is full"


def test_times_that_go_back_are_damage(tmp_path: Path) -> None:
    write(tmp_path / "f", rich_snapshot(1, 1), rich_snapshot(2, 2))
    with contextlib.closing(sqlite3.connect(tmp_path / "f")) as database, database:
        database.execute("UPDATE interval SET at_ns = at_ns - ? WHERE id = 2", (SECOND + 1,))
    expect(tmp_path / "f", "times that go back")


def test_values_that_sums_could_overflow_with_are_refused() -> None:
    assert checks.number(1 << 62) == 1 << 62
    for value in ((1 << 62) + 1, -1, 2.0, "1", None):
        with pytest.raises(ValueError, match="where a number should be"):
            checks.number(value)
    assert checks.unsigned(-1) == (1 << 64) - 1


def test_members_of_equal_numbers_have_words_of_their_own() -> None:
    members = (FaultKind.FILE_COPIED, Source.ANON, Origin.KERNEL, MappingType.HEAP)
    assert len(set(members)) == 1
    assert [tables.stored(each) for each in members] == ["file-copied", "anon", "kernel", "heap"]


def test_a_file_system_without_links_holds_a_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As FAT on a USB stick."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuse)
    write(tmp_path / "f", rich_snapshot(1, 2))
    assert read(tmp_path / "f").closed
    assert os.listdir(tmp_path) == ["f"]  # noqa: PTH208


def test_nothing_is_left_of_a_recording_that_found_no_room_to_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Writer, header: Header) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    here, root = Path.cwd(), Path("/").stat().st_ino
    monkeypatch.setattr(Writer, "_begin", full)
    with pytest.raises(NoRoom):
        Writer(tmp_path / "f", HEADER)
    assert not list(tmp_path.iterdir())
    assert (Path.cwd(), Path("/").stat().st_ino) == (here, root)


def test_what_the_tracer_has_forgotten_stays_in_the_file(tmp_path: Path) -> None:
    def shown(start_ns: int, faults: int, at: float) -> Snapshot:
        one = process(7, "short", row(FaultKind.COPIED, faults), exited=True, start_ns=start_ns)
        heap = detail(7, faults=faults, mapping=mapping(type=MappingType.HEAP))
        return replace(snapshot(one, at=at), details=(heap,))

    file = write(
        tmp_path / "x.cow", shown(1, 23, 1), shown(1, 23, 2), snapshot(at=3), shown(2, 11, 4)
    )
    assert (file.processes, file.copied_bytes) == (2, 34 * 4096)
    last = read(tmp_path / "x.cow").last
    assert sorted(process.faults for process in last.processes) == [11, 23]
    assert sum(row.faults for row in last.details) == 34


def test_sums_that_began_anew_are_added(tmp_path: Path) -> None:
    """The tracer forgets rows that are written and do not change; meanwhile their mapping grew."""
    small, large = mapping(), replace(mapping(), end=mapping().end + PAGE)

    def shown(turn: int, *rows: DetailRow) -> Snapshot:
        return replace(snapshot(at=turn), details=rows)

    write(
        tmp_path / "x.cow",
        shown(1, detail(1, faults=23, mapping=small, number=7)),
        shown(2, detail(1, faults=25, mapping=large, number=7), detail(2, faults=5, number=8)),
        shown(3, detail(1, faults=25, mapping=large, number=7), detail(2, faults=5, number=9)),
        shown(4, detail(1, faults=3, mapping=large, number=10), detail(2, faults=6, number=9)),
    )
    last = read(tmp_path / "x.cow").last
    assert {row.pid: row.faults for row in last.details} == {1: 25 + 3, 2: 5 + 6}
    assert {row.mapping for row in last.details if row.pid == 1} == {large}


def test_a_mapping_that_takes_the_place_of_another_has_its_own_sums(tmp_path: Path) -> None:
    one = mapping(type=MappingType.FILE, inode=7, name="one")
    other = replace(one, inode=8, name="other")
    first = detail(1, faults=23, mapping=one, number=7)
    second = detail(1, faults=3, mapping=other, number=8)
    shots = [(first,), (first, second), (second,)]
    write(
        tmp_path / "x.cow",
        *(replace(snapshot(at=at), details=rows) for at, rows in enumerate(shots, 1)),
    )
    found = {row.mapping: row.faults for row in read(tmp_path / "x.cow").last.details}
    assert found == {one: 23, other: 3}


def test_values_without_end_take_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_details, "_MOST_IDS", 4)

    def shown(turn: int) -> Snapshot:
        heap = mapping(type=MappingType.HEAP, start=turn << 20)
        stack = calls(f"f{turn}", "main")
        always = detail(1, faults=turn, mapping=mapping(), user_stack=calls("gc"))
        rows = always, detail(2, faults=turn, mapping=heap, user_stack=stack)
        return replace(snapshot(at=turn), samples=rows)

    file = write(tmp_path / "x.cow", *map(shown, range(1, 24)))
    assert all(len(ids) <= 2 * 4 + 4 for ids in file._details._ids.values())
    last = read(tmp_path / "x.cow").last
    assert sum(row.faults for row in last.samples if row.pid == 1) == 23
    assert sum(row.faults for row in last.samples if row.pid == 2) == sum(range(1, 24))
