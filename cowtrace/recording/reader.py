"""Read a recording from a file that anybody may have written; check every value in it."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path
from typing import Any

from cowtrace.errors import CowtraceError
from cowtrace.model import Completeness, Snapshot
from cowtrace.recording import Header, Recording, read_tables, untrusted
from cowtrace.recording.checks import Rows, kind, number, or_null, text
from cowtrace.recording.tables import APPLICATION_ID, VERSION
from cowtrace.text import printable

_YEAR_2200 = 7_258_118_400 * 10**9

# What sqlite3, and the checks of values, raise for a file that was changed or cut off.
_DAMAGE = (
    OSError,
    sqlite3.Error,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
)
_MOST_SHOWN = 200  # characters of an error, which can quote what is in the file
_HEAD = struct.Struct(">16sH10xI")  # of an SQLite database: magic, page size, pages


def read(path: Path) -> Recording:
    """Read a whole recording, even while it is still being written.

    Raises CowtraceError: it is missing, unreadable, no recording, damaged, hostile, or of a newer
    cowtrace.
    """
    shown = printable(str(path))
    make_one = "make one: sudo cowtrace record -o FILE"
    not_a_recording = CowtraceError(f"{shown} is no recording of cowtrace", hint=make_one)
    try:
        with untrusted.opened(path) as (copy, rows):
            _check_length(copy)
            ((application,),) = rows("PRAGMA application_id")
            ((version,),) = rows("PRAGMA user_version")
            if application != APPLICATION_ID:
                raise not_a_recording
            if version > VERSION:
                raise CowtraceError(
                    f"{shown} has schema {version}, this cowtrace knows up to {VERSION}",
                    hint="read it with the cowtrace that made it, or a newer one",
                )
            untrusted.check_tables(rows, version)
            return _recording(rows, version)
    except FileNotFoundError:
        raise CowtraceError(f"no such recording: {shown}", hint=make_one) from None
    except PermissionError:
        raise CowtraceError(
            f"cannot read {shown}: no permission",
            hint="it belongs to its recorder: read it with sudo",
        ) from None
    except OSError as error:
        raise CowtraceError(
            f"cannot read {shown}: {error.strerror}", hint="it is copied to read it: see TMPDIR"
        ) from None
    except untrusted.NoDatabase:
        raise not_a_recording from None
    except (untrusted.NotSafe, MemoryError) as error:
        why = str(error) or "it does not fit into memory"
        raise CowtraceError(
            f"{shown} is not read: {printable(why)}",
            hint="cowtrace record does not write such files",
        ) from None
    except _DAMAGE as error:
        raise CowtraceError(
            f"{shown} is damaged: {printable(str(error)[:_MOST_SHOWN])}",
            hint="is it whole? if its recorder was killed, FILE-wal belongs to it",
        ) from None


def _check_length(copy: Path) -> None:
    """Raise ValueError when the file is shorter than its header says and has no WAL beside it."""
    with copy.open("rb") as file:
        head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise ValueError("it is cut off")
    _, page_bytes, pages = _HEAD.unpack(head)
    missing = pages * (page_bytes if page_bytes > 1 else 1 << 16) - copy.stat().st_size
    if missing > 0 and not copy.with_name(f"{copy.name}-wal").exists():
        raise ValueError(f"the last {missing:,} bytes are missing")


def _recording(rows: Rows, version: int) -> Recording:
    meta: dict[str, Any] = dict(rows("SELECT name, value FROM meta"))
    header = _header(meta)
    available = "available_bytes" if version >= 2 else "NULL"
    intervals = rows(f"SELECT at_ns, lost, {available} FROM interval ORDER BY id")
    times = tuple(number(at) for at, _, _ in intervals)
    if list(times) != sorted(times) or (times and times[0] < header.attached_ns):
        raise ValueError("times that go back")
    at_ns, lost, _ = intervals[-1] if intervals else (header.attached_ns, 0, None)
    losses = tuple((text(cause), number(n)) for cause, n in rows("SELECT cause, count FROM loss"))
    series = read_tables.all_series(rows)
    counted = read_tables.counted(rows, len(times))
    stacks = read_tables.stacks(rows, version)
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
        details=read_tables.details(rows, version, 0, mappings, stacks),
        generations=read_tables.generations(rows, version),
        samples=read_tables.details(rows, version, 1, mappings, stacks),
        accounts=read_tables.accounts(rows) if version >= 4 else (),
    )
    return Recording(
        header,
        last,
        points=read_tables.points(series, counted, times),
        times=times,
        closed=bool(number(meta["closed"])),
        ended=None if meta["ended"] is None else str(meta["ended"]),
        available=tuple(or_null(number)(n) for _, _, n in intervals),
        places=read_tables.places(rows) if version >= 3 else (),
        traced_from_ns=or_null(number)(meta.get("traced_from_ns")),
        traced_until_ns=or_null(number)(meta.get("traced_until_ns")),
    )


def _header(meta: dict[str, Any]) -> Header:
    return Header(
        version=text(meta["version"]),
        kernel=text(meta["kernel"]),
        plan=text(meta["plan"]),
        page_bytes=number(meta["page_bytes"], least=1),
        attached_ns=number(meta["attached_ns"]),
        started_unix_ns=number(meta["started_unix_ns"], most=_YEAR_2200),
        interval_ns=number(meta["interval_ns"], least=1),
        command=or_null(text)(meta["command"]),
        unseen=frozenset(kind(word) for word in text(meta["unseen"]).split(",") if word),
        details=frozenset(word for word in text(meta["details"]).split(",") if word),
        asked=frozenset(word for word in text(meta.get("asked", "")).split(",") if word),
    )
