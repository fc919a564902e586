"""A file in, a `Recording` out. Never writes, and takes nothing in the file on trust."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cowtrace.errors import CowtraceError
from cowtrace.model import (
    Completeness,
    DetailRow,
    Ending,
    FaultKind,
    FaultRow,
    ForkGeneration,
    Mapping,
    MappingType,
    Origin,
    Place,
    Process,
    Snapshot,
    Source,
    Stack,
    StackFrame,
)
from cowtrace.recording.schema import APPLICATION_ID, VERSION
from cowtrace.recording.values import Header, Point, Recording, together
from cowtrace.views.text import printable

_KINDS = {kind.label: kind for kind in FaultKind}
_SOURCES = {source.name.lower(): source for source in Source}
_ORIGINS = {origin.name.lower(): origin for origin in Origin}
_MOST = 1 << 62  # of any count, bytes or ns: half of what SQLite holds, so that two can be added
_YEAR_2200 = 7_258_118_400 * 10**9
_TYPES = {kind.name.lower(): kind for kind in MappingType}

_HEAD = struct.Struct(">16sH10xI")  # of an SQLite database: magic, page size, pages
_GENERATIONS = "SELECT * FROM generation ORDER BY number"

_Rows = Callable[[str], list[tuple[Any, ...]]]


def read(path: Path) -> Recording:
    """Read it whole, also while it is still being written.

    Raises CowtraceError: it is not there, no recording, damaged, or of a newer cowtrace.
    """
    shown = printable(str(path))
    if not path.is_file():
        raise CowtraceError(
            f"no such recording: {shown}", hint="make one: sudo cowtrace record -o FILE"
        )
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
        if not head.startswith(b"SQLite format 3\0"):
            raise _not_one(shown)
        _whole(path, head)
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    except (OSError, ValueError, sqlite3.Error) as error:
        raise _damaged(shown, error) from None
    database.text_factory = lambda raw: raw.decode(errors="backslashreplace")
    try:
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise _not_one(shown)
        if version > VERSION:
            raise CowtraceError(
                f"{shown} has schema {version}, this cowtrace knows up to {VERSION}",
                hint="read it with the cowtrace that made it, or a newer one",
            )
        database.execute("BEGIN")  # one moment, if it is still being written
        return _recording(lambda query: database.execute(query).fetchall(), version)
    except (
        sqlite3.Error,
        LookupError,
        OverflowError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        raise _damaged(shown, error) from None
    finally:
        database.close()


def _whole(path: Path, head: bytes) -> None:
    """Raises ValueError when it is shorter than it says. With a WAL beside it that is no fault."""
    if len(head) < _HEAD.size:
        raise ValueError("it is cut off")
    _, page_bytes, pages = _HEAD.unpack(head)
    missing = pages * (page_bytes if page_bytes > 1 else 1 << 16) - path.stat().st_size
    if missing > 0 and not path.with_name(f"{path.name}-wal").exists():
        raise ValueError(f"the last {missing:,} bytes are missing")


def _not_one(shown: str) -> CowtraceError:
    return CowtraceError(
        f"{shown} is no recording of cowtrace", hint="make one: sudo cowtrace record -o FILE"
    )


def _damaged(shown: str, error: Exception) -> CowtraceError:
    return CowtraceError(
        f"{shown} is damaged: {printable(str(error))}",
        hint="is it whole? if its recorder was killed, FILE-wal belongs to it",
    )


def _recording(rows: _Rows, version: int) -> Recording:
    meta: dict[str, Any] = dict(rows("SELECT name, value FROM meta"))
    header = _header(meta)
    available = "available_bytes" if version >= 2 else "NULL"
    intervals = rows(f"SELECT at_ns, lost, {available} FROM interval ORDER BY id")
    times = tuple(_number(at) for at, _, _ in intervals)
    if list(times) != sorted(times) or (times and times[0] < header.attached_ns):
        raise ValueError("times that go back")
    at_ns, lost, _ = intervals[-1] if intervals else (header.attached_ns, 0, None)
    losses = tuple((str(cause), _number(n)) for cause, n in rows("SELECT cause, count FROM loss"))
    series = _all_series(rows)
    counted = _counted(rows, len(times))
    stacks = _stacks(rows)
    mappings = _mappings(rows)
    processes = _processes(rows, series, counted, header.unseen)
    if not {process for process, _ in series.values()} <= set(range(1, len(processes) + 1)):
        raise ValueError("faults of a process that is not in it")
    last = Snapshot(
        at_ns=at_ns,
        attached_ns=header.attached_ns,
        plan=header.plan,
        kernel=header.kernel,
        page_bytes=header.page_bytes,
        processes=processes,
        completeness=Completeness(_number(lost), losses),
        unseen=header.unseen,
        details=_details(rows, 0, mappings, stacks),
        generations=tuple(_generation(*row) for row in rows(_GENERATIONS)),
        samples=_details(rows, 1, mappings, stacks),
    )
    return Recording(
        header,
        last,
        points=_points(series, counted, times),
        times=times,
        closed=bool(meta["closed"]),
        ended=None if meta["ended"] is None else str(meta["ended"]),
        available=tuple(_or_none(n) for _, _, n in intervals),
        places=_places(rows) if version >= 3 else (),
    )


def _header(meta: dict[str, Any]) -> Header:
    return Header(
        version=str(meta["version"]),
        kernel=str(meta["kernel"]),
        plan=str(meta["plan"]),
        page_bytes=_number(meta["page_bytes"], least=1),
        attached_ns=_number(meta["attached_ns"]),
        started_unix_ns=_number(meta["started_unix_ns"], most=_YEAR_2200),
        interval_ns=_number(meta["interval_ns"], least=1),
        command=None if meta["command"] is None else str(meta["command"]),
        unseen=frozenset(_KINDS[word] for word in meta["unseen"].split(",") if word),
        details=frozenset(word for word in meta["details"].split(",") if word),
        asked=frozenset(word for word in str(meta.get("asked") or "").split(",") if word),
    )


def _all_series(rows: _Rows) -> dict[int, tuple[int, FaultRow]]:
    """By number: the process's, and what its faults have in common."""
    return {
        number: (
            process,
            FaultRow(_KINDS[kind], _SOURCES[source], _ORIGINS[origin], _or_none(actor), 0, 0),
        )
        for number, process, kind, source, origin, actor in rows(
            "SELECT id, process, kind, source, origin, actor FROM series ORDER BY id"
        )
    }


def _counted(rows: _Rows, intervals: int) -> list[tuple[int, int, int, int]]:
    """(index of the last interval in it, series, faults, bytes), by time.

    Several intervals are taken together when there are more than a chart can show.
    """
    step = together(intervals)
    return [
        (min(intervals, (_number(part) + 1) * step) - 1, series, _change(faults), _change(copied))
        for part, series, faults, copied in rows(
            f"SELECT (interval - 1) / {step} AS part, series, sum(faults), sum(bytes) "
            "FROM fault GROUP BY part, series ORDER BY part"
        )
    ]


def _points(
    series: dict[int, tuple[int, FaultRow]],
    counted: list[tuple[int, int, int, int]],
    times: tuple[int, ...],
) -> tuple[Point, ...]:
    sums: dict[tuple[int, int, FaultKind], tuple[int, int]] = {}
    for at, number, faults, copied in counted:
        process, row = series[number]
        key = at, process, row.kind
        before = sums.get(key, (0, 0))
        sums[key] = before[0] + faults, before[1] + copied
    return tuple(
        Point(times[at], process - 1, kind, *both) for (at, process, kind), both in sums.items()
    )


def _processes(
    rows: _Rows,
    series: dict[int, tuple[int, FaultRow]],
    counted: list[tuple[int, int, int, int]],
    unseen: frozenset[FaultKind],
) -> tuple[Process, ...]:
    """In the order of their ids, which are 1, 2..."""
    totals: dict[int, tuple[int, int]] = {}
    for _, number, faults, copied in counted:
        before = totals.get(number, (0, 0))
        totals[number] = before[0] + faults, before[1] + copied
    sums: dict[int, list[FaultRow]] = {}
    for number, (process, row) in series.items():
        faults, copied = totals.get(number, (0, 0))
        sums.setdefault(process, []).append(replace(row, faults=faults, bytes=copied))
    return tuple(
        Process(
            pid=_number(pid),
            comm=str(comm),
            parent=_or_none(parent),
            exited=bool(exited),
            page_faults=None,
            rows=tuple(row for row in sums.get(number, ()) if row.faults or row.bytes),
            unseen=unseen,
            start_ns=_or_none(start_ns),
        )
        for number, pid, start_ns, comm, parent, exited in rows(
            "SELECT id, pid, start_ns, comm, parent, exited FROM process ORDER BY id"
        )
    )


def _places(rows: _Rows) -> tuple[Place, ...]:
    return tuple(
        Place(_or_none(nspid), None if cgroup is None else str(cgroup))
        for nspid, cgroup in rows("SELECT nspid, cgroup FROM process ORDER BY id")
    )


def _generation(
    number: int,
    parent: int,
    child: int,
    at_ns: int,
    shareable: int | None,
    ended_ns: int | None,
    ended_by: str | None,
    by_parent: int,
    by_child: int,
) -> ForkGeneration:
    ending = Ending(ended_by) if ended_by else None
    return ForkGeneration(
        _number(number),
        _number(parent),
        _number(child),
        _number(at_ns),
        _or_none(shareable),
        _or_none(ended_ns),
        ending,
        _number(by_parent),
        _number(by_child),
    )


def _mappings(rows: _Rows) -> dict[int, Mapping]:
    return {
        number: Mapping(_word(start), _word(end), _TYPES[kind], _word(flags), str(name), _word(ino))
        for number, start, end, kind, flags, name, ino in rows("SELECT * FROM mapping")
    }


def _stacks(rows: _Rows) -> dict[int, Stack]:
    frames = {
        number: StackFrame(str(symbol), str(module), _word(address))
        for number, symbol, module, address in rows("SELECT * FROM frame")
    }
    return {
        number: tuple(frames[frame] for frame in json.loads(ids))
        for number, ids in rows("SELECT * FROM stack")
    }


def _details(
    rows: _Rows, sampled: int, mappings: dict[int, Mapping], stacks: dict[int, Stack]
) -> tuple[DetailRow, ...]:
    found = rows(
        "SELECT pid, kind, source, origin, generation, mapping, user_stack, kernel_stack, "
        f"latency, faults, bytes, ns FROM detail WHERE sampled = {sampled} ORDER BY id"
    )
    return tuple(
        DetailRow(
            _number(pid),
            _KINDS[kind],
            _SOURCES[source],
            _ORIGINS[origin],
            _or_none(generation),
            None if mapping is None else mappings[mapping],
            None if user is None else stacks[user],
            None if kernel is None else stacks[kernel],
            _or_none(latency, most=64),
            _number(faults),
            _number(copied),
            _or_none(ns),
        )
        for pid, kind, source, origin, generation, mapping, user, kernel, *sums in found
        for latency, faults, copied, ns in (sums,)
    )


def _number(value: object, *, least: int = 0, most: int = _MOST) -> int:
    """What it says, if it is a number that cowtrace could have written."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{str(value)[:40]!r} where a number should be")
    return value


def _change(value: object) -> int:
    """The tracepoint plan takes back what it counted too early."""
    return _number(value, least=-_MOST)


def _or_none(value: object, *, most: int = _MOST) -> int | None:
    return None if value is None else _number(value, most=most)


def _word(signed: int) -> int:
    """The 64 bits that SQLite keeps with a sign."""
    return int(signed) & 0xFFFF_FFFF_FFFF_FFFF
