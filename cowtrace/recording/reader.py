"""Read a recording from a file. Never write to the file; check every value in it."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

from cowtrace.errors import CowtraceError
from cowtrace.model import Completeness, Snapshot
from cowtrace.recording import Header, Recording, read_tables
from cowtrace.recording.checks import kind, number, or_null
from cowtrace.recording.tables import APPLICATION_ID, VERSION
from cowtrace.text import printable

_YEAR_2200 = 7_258_118_400 * 10**9

# What sqlite3, and the checks of values, raise for a file that was changed or cut off.
_DAMAGE = (
    OSError,
    sqlite3.Error,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
_HEAD = struct.Struct(">16sH10xI")  # of an SQLite database: magic, page size, pages


def read(path: Path) -> Recording:
    """Read a whole recording, even while it is still being written.

    Raises CowtraceError: it is missing, no recording, damaged, or of a newer cowtrace.
    """
    shown = printable(str(path))
    make_one = "make one: sudo cowtrace record -o FILE"
    if not path.is_file():
        raise CowtraceError(f"no such recording: {shown}", hint=make_one)
    not_a_recording = CowtraceError(f"{shown} is no recording of cowtrace", hint=make_one)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
        if not head.startswith(b"SQLite format 3\0"):
            raise not_a_recording
        _check_length(path, head)
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            (application,) = database.execute("PRAGMA application_id").fetchone()
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if application != APPLICATION_ID:
                raise not_a_recording
            if version > VERSION:
                raise CowtraceError(
                    f"{shown} has schema {version}, this cowtrace knows up to {VERSION}",
                    hint="read it with the cowtrace that made it, or a newer one",
                )
            return _recording(database, version)
    except _DAMAGE as error:
        raise CowtraceError(
            f"{shown} is damaged: {printable(str(error))}",
            hint="is it whole? if its recorder was killed, FILE-wal belongs to it",
        ) from None


def _check_length(path: Path, head: bytes) -> None:
    """Raise ValueError when the file is shorter than its header says and has no WAL beside it."""
    if len(head) < _HEAD.size:
        raise ValueError("it is cut off")
    _, page_bytes, pages = _HEAD.unpack(head)
    missing = pages * (page_bytes if page_bytes > 1 else 1 << 16) - path.stat().st_size
    if missing > 0 and not path.with_name(f"{path.name}-wal").exists():
        raise ValueError(f"the last {missing:,} bytes are missing")


def _recording(database: sqlite3.Connection, version: int) -> Recording:
    def rows(query: str) -> list[tuple[Any, ...]]:
        return database.execute(query).fetchall()

    database.text_factory = lambda raw: raw.decode(errors="backslashreplace")
    database.execute("BEGIN")  # a consistent view, if it is still being written
    meta: dict[str, Any] = dict(rows("SELECT name, value FROM meta"))
    header = _header(meta)
    available = "available_bytes" if version >= 2 else "NULL"
    intervals = rows(f"SELECT at_ns, lost, {available} FROM interval ORDER BY id")
    times = tuple(number(at) for at, _, _ in intervals)
    if list(times) != sorted(times) or (times and times[0] < header.attached_ns):
        raise ValueError("times that go back")
    at_ns, lost, _ = intervals[-1] if intervals else (header.attached_ns, 0, None)
    losses = tuple((str(cause), number(n)) for cause, n in rows("SELECT cause, count FROM loss"))
    series = read_tables.all_series(rows)
    counted = read_tables.counted(rows, len(times))
    stacks = read_tables.stacks(rows)
    mappings = read_tables.mappings(rows)
    processes = read_tables.processes(rows, series, counted, header.unseen)
    if not {process for process, _ in series.values()} <= set(range(1, len(processes) + 1)):
        raise ValueError("faults of a process that is not in it")
    last = Snapshot(
        at_ns=at_ns,
        attached_ns=header.attached_ns,
        plan=header.plan,
        kernel=header.kernel,
        page_bytes=header.page_bytes,
        processes=processes,
        completeness=Completeness(number(lost), losses),
        unseen=header.unseen,
        details=read_tables.details(rows, 0, mappings, stacks),
        generations=read_tables.generations(rows),
        samples=read_tables.details(rows, 1, mappings, stacks),
    )
    return Recording(
        header,
        last,
        points=read_tables.points(series, counted, times),
        times=times,
        closed=bool(meta["closed"]),
        ended=None if meta["ended"] is None else str(meta["ended"]),
        available=tuple(or_null(number)(n) for _, _, n in intervals),
        places=read_tables.places(rows) if version >= 3 else (),
    )


def _header(meta: dict[str, Any]) -> Header:
    return Header(
        version=str(meta["version"]),
        kernel=str(meta["kernel"]),
        plan=str(meta["plan"]),
        page_bytes=number(meta["page_bytes"], least=1),
        attached_ns=number(meta["attached_ns"]),
        started_unix_ns=number(meta["started_unix_ns"], most=_YEAR_2200),
        interval_ns=number(meta["interval_ns"], least=1),
        command=None if meta["command"] is None else str(meta["command"]),
        unseen=frozenset(kind(word) for word in meta["unseen"].split(",") if word),
        details=frozenset(word for word in meta["details"].split(",") if word),
        asked=frozenset(word for word in str(meta.get("asked") or "").split(",") if word),
    )
