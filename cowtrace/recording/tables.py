"""Define the tables of a recording, and write rows to them. sqlite3 can read them too.

Times are nanoseconds of CLOCK_MONOTONIC, counts are of faults, sizes in bytes. Every interval is
one transaction, so that readers see whole intervals.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import fields
from enum import Enum
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

APPLICATION_ID = 0x636F7774  # "cowt": PRAGMA application_id
# PRAGMA user_version; a reader supports its own and older ones. 2: interval.available_bytes;
# 3: process.nspid, process.cgroup; 4: account, account_cause; 5: frame.line, detail.cause to
# .phase; 6: generation.fork_ns to .first_second_ns
VERSION = 6

SCHEMA = """
-- About the whole recording: version, kernel, plan, page_bytes, attached_ns, started_unix_ns,
-- interval_ns, command, unseen, details and asked (comma-separated; requested details that are
-- absent from details: the plan does not support them), closed (1: it ended cleanly), ended (why
-- it ended early); where they are known, traced_from_ns (when the first traced process started, or
-- attached_ns) and traced_until_ns (when the last one had ended).
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- lost: since attach, as is loss.count. available_bytes: MemAvailable of /proc/meminfo, NULL when
-- it could not be read.
CREATE TABLE interval (
    id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, lost INTEGER NOT NULL, available_bytes INTEGER
);
CREATE TABLE loss (cause TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;

-- pid is the kernel's tgid; parent NULL: created before the recording. The process chose comm.
-- nspid: the container PID; cgroup: the path. NULL: unknown.
CREATE TABLE process (
    id INTEGER PRIMARY KEY, pid INTEGER NOT NULL, start_ns INTEGER, comm TEXT NOT NULL,
    parent INTEGER, exited INTEGER NOT NULL, nspid INTEGER, cgroup TEXT
);

-- kind, source and origin are words; actor is the pid that made a remote fault.
CREATE TABLE series (
    id INTEGER PRIMARY KEY, process INTEGER NOT NULL REFERENCES process, kind TEXT NOT NULL,
    source TEXT NOT NULL, origin TEXT NOT NULL, actor INTEGER
);
-- Faults of one interval; a series that did not change in it has no row.
CREATE TABLE fault (
    interval INTEGER NOT NULL REFERENCES interval, series INTEGER NOT NULL REFERENCES series,
    faults INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (interval, series)
) WITHOUT ROWID;

-- Forks that made a new mm, as of the last interval. fork_ns: in the call (tracepoint plan: a lower
-- bound); lock_ns: of these, with the mmap lock; fork_copied_bytes: by the call itself;
-- first_second_ns: in the parent's copies and re-marks in the first second after it. NULL: unknown.
CREATE TABLE generation (
    number INTEGER PRIMARY KEY, parent INTEGER NOT NULL, child INTEGER NOT NULL,
    at_ns INTEGER NOT NULL, shareable_bytes INTEGER, ended_ns INTEGER, ended_by TEXT,
    parent_copied_bytes INTEGER NOT NULL, child_copied_bytes INTEGER NOT NULL,
    fork_ns INTEGER, lock_ns INTEGER, page_table_bytes INTEGER, fork_copied_bytes INTEGER,
    first_second_ns INTEGER
);

CREATE TABLE mapping (
    id INTEGER PRIMARY KEY, start INTEGER NOT NULL, end INTEGER NOT NULL, type TEXT NOT NULL,
    flags INTEGER NOT NULL, name TEXT NOT NULL, inode INTEGER NOT NULL
);
CREATE TABLE frame (
    id INTEGER PRIMARY KEY, symbol TEXT NOT NULL, module TEXT NOT NULL, address INTEGER NOT NULL,
    line INTEGER
);
-- frames: ids, a JSON array, innermost first.
CREATE TABLE stack (id INTEGER PRIMARY KEY, frames TEXT NOT NULL);

-- Sums as of the last interval. sampled 1: an estimate, from samples. latency: log2 of the ns.
-- cause, type, phase: what was written in CPython (record --objects).
CREATE TABLE detail (
    id INTEGER PRIMARY KEY, sampled INTEGER NOT NULL, pid INTEGER NOT NULL, kind TEXT NOT NULL,
    source TEXT NOT NULL, origin TEXT NOT NULL, generation INTEGER,
    mapping INTEGER REFERENCES mapping, user_stack INTEGER REFERENCES stack,
    kernel_stack INTEGER REFERENCES stack, latency INTEGER,
    faults INTEGER NOT NULL, bytes INTEGER NOT NULL, ns INTEGER,
    cause TEXT, type TEXT, phase TEXT
);

-- Private memory of a process (record --private), as of the last interval; in bytes. began: when it
-- was first read, 0 if it was created since; ended 1: as it was last read. moved: by how much it
-- changed while it was read; files: by how much private pages of files grew.
CREATE TABLE account (
    id INTEGER PRIMARY KEY, pid INTEGER NOT NULL, comm TEXT NOT NULL, ended INTEGER NOT NULL,
    began INTEGER NOT NULL, now INTEGER NOT NULL, moved INTEGER NOT NULL, files INTEGER NOT NULL,
    anonymous INTEGER NOT NULL, swap INTEGER NOT NULL, unread INTEGER NOT NULL
);
-- Why it grew or shrank. traced: what a probe counted; NULL: it counts none of this cause.
CREATE TABLE account_cause (
    account INTEGER NOT NULL REFERENCES account, cause TEXT NOT NULL, bytes INTEGER NOT NULL,
    traced INTEGER, PRIMARY KEY (account, cause)
) WITHOUT ROWID;
"""
_SINCE_4 = {"account", "account_cause"}
_FORK = (
    ",\n    fork_ns INTEGER, lock_ns INTEGER, page_table_bytes INTEGER, fork_copied_bytes INTEGER,"
    "\n    first_second_ns INTEGER"
)
_LINE, _WRITTEN = ",\n    line INTEGER", ",\n    cause TEXT, type TEXT, phase TEXT"


@cache
def definitions(version: int) -> frozenset[tuple[str, str, str, str]]:
    """Rows of sqlite_schema that a file of this version has: type, name, table, SQL without space.

    Files of older versions may have been made by ALTER TABLE: its SQL is the same but for space.
    """
    schema = SCHEMA
    if version < 6:
        schema = schema.replace(_FORK, "")
    if version < 5:
        schema = schema.replace(_LINE, "").replace(_WRITTEN, "")
    if version < 3:
        schema = schema.replace(", nspid INTEGER, cgroup TEXT", "")
    if version < 2:
        schema = schema.replace(", available_bytes INTEGER", "")
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(schema)
        rows = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")
        found = frozenset((*names, "".join(sql.split())) for *names, sql in rows)
    return found if version >= 4 else frozenset(row for row in found if row[1] not in _SINCE_4)


def put(
    database: sqlite3.Connection, table: str, row: Sequence[Any], update: tuple[str, ...] = ()
) -> None:
    """Insert a row; `update`: columns to change if the table has it already."""
    database.execute(insert(table, len(row), update), row)


@cache
def insert(table: str, columns: int, update: tuple[str, ...] = ()) -> str:
    """The statement of `put`, with `columns` placeholders."""
    into = f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})"
    changes = ", ".join(f"{column} = excluded.{column}" for column in update)
    return f"{into} ON CONFLICT DO UPDATE SET {changes}" if changes else into


def stored(value: object) -> object:
    """Convert a value to what SQLite holds.

    A member of an enum becomes a word, a set a list of words, a byte that is not UTF-8 an escape.
    """
    if isinstance(value, Enum):
        return word_of(value)
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, frozenset):
        return ",".join(sorted(str(stored(each)) for each in value))
    if isinstance(value, int) and value >> 63 == 1:  # SQLite's integers are signed, of 64 bits
        return value - (1 << 64)
    return value


@lru_cache(maxsize=None, typed=True)  # typed: members of two enums can be equal numbers
def word_of(member: Enum) -> str:
    """`file-copied`."""
    return member.name.lower().replace("_", "-")


def values(of: DataclassInstance) -> list[object]:
    """The fields of a dataclass, as stored in columns of the same order."""
    return [stored(getattr(of, field.name)) for field in fields(of)]
