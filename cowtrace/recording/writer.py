"""Write the changes of each snapshot to a recording, in one transaction an interval."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path

from cowtrace.errors import EXIT_NO_ROOM, CowtraceError
from cowtrace.model import (
    FaultKind,
    Origin,
    PlaceOf,
    Process,
    Snapshot,
    Source,
    unknown_place,
)
from cowtrace.recording import Header
from cowtrace.recording.place import RecordingPlace
from cowtrace.recording.tables import APPLICATION_ID, SCHEMA, VERSION, insert, put, stored, word_of
from cowtrace.recording.write_details import DetailWriter
from cowtrace.text import printable

_Series = tuple[FaultKind, Source, Origin, int | None]  # a row without sums


@dataclass(slots=True)
class _Written:
    """What the file has of a process."""

    number: int  # its id
    changed_in: int | None = None
    copied_bytes: int = 0
    series: dict[_Series, tuple[int, int, int]] = field(default_factory=dict)  # id, faults, bytes


class NoRoom(CowtraceError):
    """The disk is full. Earlier intervals are a valid recording."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"no room to go on recording: {printable(str(path))} is kept as it was",
            hint="it can be read: cowtrace report FILE; record to a disk with more room",
            exit_code=EXIT_NO_ROOM,
        )


class Writer:
    """A recording in progress: `add` each snapshot, then `close`. A kill loses one interval."""

    def __init__(self, path: Path, header: Header, *, force: bool = False) -> None:
        """Raises CowtraceError: the file exists already, or cannot be created."""
        self._path = path
        self._place = RecordingPlace(path, force=force)
        self._closed = False
        self._written: dict[tuple[int, int | None], _Written] = {}  # by identity
        self._last_series = 0
        self._traced: tuple[int | None, int | None] = None, None  # as it is in the file
        self.processes = 0  # recorded so far
        self.copied_bytes = 0  # by them
        try:
            with self._place.private() as file:
                self._database = sqlite3.connect(file, isolation_level=None)
                self._begin(header)
        except sqlite3.OperationalError:
            raise NoRoom(path) from None
        self._details = DetailWriter(self._database)

    def add(
        self, now: Snapshot, available_bytes: int | None = None, place_of: PlaceOf = unknown_place
    ) -> None:
        """Write one interval, with MemAvailable and where each changed process runs.

        Raises NoRoom: this interval is not in the file, the earlier ones are.
        """
        try:
            with self._database:  # commits, or rolls back after an error
                self._database.execute("BEGIN")
                interval = self._database.execute(
                    "INSERT INTO interval (at_ns, lost, available_bytes) VALUES (?, ?, ?)",
                    (now.at_ns, now.completeness.lost, available_bytes),
                ).lastrowid
                losses = now.completeness.detail
                self._database.executemany(insert("loss", 2, update=("count",)), losses)
                changes = (c for p in now.processes for c in self._changes(p, place_of))
                faults = [(interval, *change) for change in changes]
                self._database.executemany(insert("fault", 4), faults)
                self._details.add(now)
                self._forget(now)
        except sqlite3.OperationalError as error:
            self.close(ended=f"no room: {error}")
            raise NoRoom(self._path) from None

    def traced(self, from_ns: int | None, until_ns: int | None) -> None:
        """Write when the first traced process started, and when the last one ended, if known.

        Without room for it, the report takes the times of the recording.
        """
        if not self._closed and self._traced != (from_ns, until_ns):
            with suppress(sqlite3.OperationalError):
                self._set(traced_from_ns=from_ns, traced_until_ns=until_ns)
                self._traced = from_ns, until_ns

    def close(self, *, ended: str | None = None) -> None:
        """Mark the recording complete; fold the write-ahead log into the file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        is_complete = False
        with suppress(sqlite3.Error):  # no room for this either: the file reads as not closed
            self._set(closed=1, **({"ended": ended} if ended else {}))
            # Not where somebody reads it right now: the WAL then stays beside it.
            ((is_busy, _, _),) = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            is_complete = not is_busy
        self._database.close()
        self._place.close(complete=is_complete)  # last: it ends SQLite's own locks

    def _begin(self, header: Header) -> None:
        self._database.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;"
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
            f"BEGIN; {SCHEMA}"
        )
        about = {field.name: stored(getattr(header, field.name)) for field in fields(header)}
        self._set(**about, closed=0, ended=None)
        self._database.execute("COMMIT")

    def _set(self, **values: object) -> None:
        self._database.executemany(insert("meta", 2, update=("value",)), values.items())

    def _changes(self, process: Process, place_of: PlaceOf) -> Iterable[tuple[int, int, int]]:
        """Yield (series, faults, bytes) of one process since the previous interval."""
        written = self._written.get(process.identity)
        if written is None:
            self.processes += 1
            written = self._written[process.identity] = _Written(self.processes)
        if written.changed_in == process.changed_in:
            return
        self.copied_bytes += process.copied_bytes - written.copied_bytes
        written.changed_in, written.copied_bytes = process.changed_in, process.copied_bytes
        number = written.number
        place = place_of(process)
        known = number, process.pid, process.start_ns  # these never change
        changing = process.comm, process.parent, process.exited, place.nspid, place.cgroup
        update = "comm", "parent", "exited", "nspid", "cgroup"
        put(self._database, "process", (*known, *map(stored, changing)), update)
        for row in process.rows:
            key = row.kind, row.source, row.origin, row.actor
            if key not in written.series:
                self._last_series += 1
                written.series[key] = self._last_series, 0, 0
                words = word_of(row.kind), word_of(row.source), word_of(row.origin)
                put(self._database, "series", (self._last_series, number, *words, row.actor))
            series, *before = written.series[key]
            written.series[key] = series, row.faults, row.bytes
            if [row.faults, row.bytes] != before:
                yield series, row.faults - before[0], row.bytes - before[1]

    def _forget(self, now: Snapshot) -> None:
        """Processes that the tracer has forgotten, since they ended, do not come back."""
        if len(self._written) > len(now.processes):
            current = {process.identity for process in now.processes}
            self._written = {key: self._written[key] for key in self._written.keys() & current}
