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
    except (sqlite3.Error, LookupError, ValueError, TypeError, AttributeError) as error:
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
    times = tuple(at for at, _, _ in intervals)
    at_ns, lost, _ = intervals[-1] if intervals else (header.attached_ns, 0, None)
    losses = tuple((str(cause), int(n)) for cause, n in rows("SELECT cause, count FROM loss"))
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
        completeness=Completeness(lost, losses),
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
        ended=meta["ended"],
        available=tuple(None if n is None else int(n) for _, _, n in intervals),
    )


def _header(meta: dict[str, Any]) -> Header:
    return Header(
        version=str(meta["version"]),
        kernel=str(meta["kernel"]),
        plan=str(meta["plan"]),
        page_bytes=int(meta["page_bytes"]),
        attached_ns=int(meta["attached_ns"]),
        started_unix_ns=int(meta["started_unix_ns"]),
        interval_ns=int(meta["interval_ns"]),
        command=meta["command"],
        unseen=frozenset(_KINDS[word] for word in meta["unseen"].split(",") if word),
        details=frozenset(word for word in meta["details"].split(",") if word),
        asked=frozenset(word for word in str(meta.get("asked") or "").split(",") if word),
    )


def _all_series(rows: _Rows) -> dict[int, tuple[int, FaultRow]]:
    """By number: the process's, and what its faults have in common."""
    return {
        number: (process, FaultRow(_KINDS[kind], _SOURCES[source], _ORIGINS[origin], actor, 0, 0))
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
        (min(intervals, (part + 1) * step) - 1, series, faults, copied)
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
            pid=pid,
            comm=str(comm),
            parent=parent,
            exited=bool(exited),
            page_faults=None,
            rows=tuple(row for row in sums.get(number, ()) if row.faults or row.bytes),
            unseen=unseen,
            start_ns=start_ns,
        )
        for number, pid, start_ns, comm, parent, exited in rows("SELECT * FROM process ORDER BY id")
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
        number, parent, child, at_ns, shareable, ended_ns, ending, by_parent, by_child
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
            pid,
            _KINDS[kind],
            _SOURCES[source],
            _ORIGINS[origin],
            generation,
            None if mapping is None else mappings[mapping],
            None if user is None else stacks[user],
            None if kernel is None else stacks[kernel],
            *latency_and_sums,
        )
        for pid, kind, source, origin, generation, mapping, user, kernel, *latency_and_sums in found
    )


def _word(signed: int) -> int:
    """The 64 bits that SQLite keeps with a sign."""
    return int(signed) & 0xFFFF_FFFF_FFFF_FFFF
