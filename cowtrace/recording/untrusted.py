"""Open a recording that anybody may have written: a private copy, cowtrace's tables, bounded work.

SQLite opens files by name, waits on a FIFO, replays another's journal and runs whatever a schema
says. So it only sees a copy in a folder of this process, made from descriptors of regular files.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from cowtrace.files import scratch
from cowtrace.recording.checks import Rows
from cowtrace.recording.tables import definitions

_MAGIC = b"SQLite format 3\0"
MOST_BYTES = 4 << 30  # of the file with its WAL
_TRIES = 20  # a WAL that starts anew while it is copied: at most once an interval
_GROWTH_BYTES = 64 << 20  # while it is copied
_WAL_HEAD_BYTES = 32  # has salts that change when a WAL starts anew
_ROW_BYTES = 4  # that each row takes at least
_STEPS = 10_000  # of SQLite's virtual machine, between two looks at the bounds
_LIMITS = {  # no definition, row or statement of cowtrace's comes near
    sqlite3.SQLITE_LIMIT_LENGTH: 16 << 20,  # recorded commands: the kernel's ARG_MAX, quoted
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 10_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 50,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}


class NotSafe(Exception):
    """The file is not read; says why."""


class NoDatabase(NotSafe):
    """The file does not begin as an SQLite database."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[Path, Rows]]:
    """Yield a consistent copy, and what runs a query on it. A recorder may go on meanwhile.

    Raises OSError: it cannot be read; NotSafe: it is not a file, too large, or takes more work
    or memory than a recording of its size; sqlite3.Error and MemoryError, as sqlite3 does.
    """
    with scratch() as folder:
        copy = Path(folder, "copy")
        size = _copied(path, copy)
        with closing(sqlite3.connect(copy, isolation_level=None)) as database:
            for limit, most in _LIMITS.items():
                database.setlimit(limit, most)
            looks, end = 100 + size // 500, time.process_time() + 10 + size / 4e6

            def is_too_much() -> bool:
                nonlocal looks
                looks -= 1
                return looks < 0 or time.process_time() > end

            def rows(query: str) -> list[tuple[object, ...]]:
                found, room = [], size
                try:
                    for row in database.execute(query):
                        room -= _ROW_BYTES
                        room -= sum(len(value) for value in row if isinstance(value, str | bytes))
                        if room < 0:
                            raise NotSafe("it has more rows than its size can hold")
                        found.append(row)
                except sqlite3.OperationalError as error:
                    if is_too_much():
                        raise NotSafe("it takes more work than a recording of its size") from error
                    raise
                return found

            database.set_progress_handler(is_too_much, _STEPS)
            database.text_factory = lambda raw: raw.decode(errors="backslashreplace")
            for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "query_only = ON"):
                database.execute(f"PRAGMA {pragma}")
            yield copy, rows


def check_tables(rows: Rows, version: int) -> None:
    """Raise NotSafe unless it has exactly the tables of that schema, by their definitions.

    Nothing else is then executed: no view, trigger, virtual table or generated column.
    """
    found = rows("SELECT type, name, tbl_name, sql FROM sqlite_schema LIMIT 99")
    if {(*names, "".join(str(sql).split())) for *names, sql in found} != definitions(version):
        raise NotSafe("its tables are not those of cowtrace")


def _copied(path: Path, copy: Path) -> int:
    """Copy the file, and its WAL if there is one; return their size.

    A checkpoint that happens meanwhile changes only pages that the WAL has, too, unless the WAL
    starts anew: then both are copied again.
    """
    wal_path = path.with_name(f"{path.name}-wal")
    for _ in range(_TRIES):
        with ExitStack() as stack:
            file = _regular(path, stack)
            if os.pread(file, len(_MAGIC), 0) != _MAGIC:
                raise NoDatabase
            wal = _wal(wal_path, os.fstat(file).st_uid, stack)
            before = _head(wal)
            pairs = [(file, copy)] + ([(wal, Path(f"{copy}-wal"))] if wal else [])
            room = size = sum(os.fstat(each).st_size for each, _ in pairs)
            if size > MOST_BYTES:
                raise NotSafe(f"it has {size:,} bytes, more than cowtrace reads")
            for source, target in pairs:
                room -= _copy(source, target, room + _GROWTH_BYTES)
            if before == _head(_wal(wal_path, os.fstat(file).st_uid, stack)):
                return size
        Path(f"{copy}-wal").unlink(missing_ok=True)
    raise NotSafe("it changes faster than it can be read")


def _regular(path: Path, stack: ExitStack, flags: int = 0) -> int:
    """Open a file without waiting for a writer or a lease; a device is not opened at all."""
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC | flags)
    stack.callback(os.close, handle)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise NotSafe("it is not a regular file")
    fd = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


def _wal(path: Path, owner: int, stack: ExitStack) -> int | None:
    """The WAL's descriptor; None if there is none. Another user's would change what is read."""
    try:
        fd = _regular(path, stack, os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except NotSafe:
        raise NotSafe(f"{path.name} is not a regular file") from None
    if os.fstat(fd).st_uid != owner:
        raise NotSafe(f"{path.name} belongs to another user")
    return fd


def _head(wal: int | None) -> bytes | None:
    return None if wal is None else os.pread(wal, _WAL_HEAD_BYTES, 0)


def _copy(source: int, target: Path, most: int) -> int:
    """Copy the data, and leave out the holes; return the size, which may have grown a bit."""
    size, at = min(os.fstat(source).st_size, most), 0
    with target.open("wb") as file:
        file.truncate(size)
        while at < size:
            try:
                at = os.lseek(source, at, os.SEEK_DATA)
            except OSError:  # ENXIO: the rest is a hole
                break
            end = os.lseek(source, at, os.SEEK_HOLE)
            file.seek(at)
            while at < min(end, size) and (data := os.pread(source, min(1 << 20, end - at), at)):
                at += file.write(data)
    return size
