"""Recordings that an attacker made: each is answered or refused, in bounded time and memory."""

from __future__ import annotations

import itertools
import os
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from made_recordings import write

HOSTILE: dict[str, Callable[[Path], object]] = {}  # by name: makes the file
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


def hostile(make: Callable[[Path], object]) -> Callable[[Path], object]:
    HOSTILE[make.__name__.replace("_", "-")] = make
    return make


def changed(path: Path, *statements: str) -> None:
    """A whole recording, and then these statements."""
    write(path, intervals=2)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("BEGIN")
        for statement in statements:
            database.execute(statement)


def instead(path: Path, table: str, *statements: str) -> None:
    changed(path, f"DROP TABLE {table}", *statements)


def rewritten(path: Path, table: str, sql: str) -> None:
    """The text of a table's definition is another, over the same pages."""
    write(path, intervals=2)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, table))


@hostile
def view_without_end(path: Path) -> None:
    columns = "i AS id, 8000000000 AS at_ns, 0 AS lost, NULL AS available_bytes"
    instead(path, "interval", f"CREATE VIEW interval AS {ENDLESS} SELECT {columns} FROM n")


@hostile
def view_that_fills_memory(path: Path) -> None:
    instead(path, "loss", f"CREATE VIEW loss AS {ENDLESS} SELECT hex(zeroblob(9999999)) || i "
            "AS cause, 1 AS count FROM n")  # fmt: skip


@hostile
def view_of_meta(path: Path) -> None:
    """Its answers would be right: no view is read, whatever it answers."""
    changed(path, "ALTER TABLE meta RENAME TO other",
            "CREATE VIEW meta AS SELECT name, value FROM other")  # fmt: skip


@hostile
def trigger(path: Path) -> None:
    changed(path, "CREATE TRIGGER t AFTER INSERT ON loss BEGIN DELETE FROM meta; END")


@hostile
def index_on_an_expression(path: Path) -> None:
    changed(path, "CREATE INDEX i ON fault (interval / 1, series, faults, bytes)")


@hostile
def generated_column(path: Path) -> None:
    """Written as a plain table: SQLite computes the column of a row that it is given, too."""
    column = "count INTEGER NOT NULL GENERATED ALWAYS AS (length(hex(zeroblob(100000000))))"
    generated = f"CREATE TABLE loss (cause TEXT PRIMARY KEY, {column}) WITHOUT ROWID"
    instead(path, "loss", "CREATE TABLE loss (cause TEXT PRIMARY KEY) WITHOUT ROWID",
            "INSERT INTO loss VALUES ('x')", "PRAGMA writable_schema = ON",
            f"UPDATE sqlite_schema SET sql = '{generated}' WHERE name = 'loss'")  # fmt: skip


@hostile
def virtual_table(path: Path) -> None:
    instead(path, "frame", "CREATE VIRTUAL TABLE frame USING fts5(id, symbol, module, address)")


@hostile
def table_too_many(path: Path) -> None:
    changed(path, "CREATE TABLE another (x)")


@hostile
def definitions_too_many(path: Path) -> None:
    changed(path, *(f"CREATE TABLE t{number} (x)" for number in range(500)))


@hostile
def definition_too_deep(path: Path) -> None:
    rewritten(path, "loss", f"CREATE TABLE loss (cause, count CHECK ({'(' * 900}1{')' * 900}))")


@hostile
def definition_that_is_no_text(path: Path) -> None:
    rewritten(path, "loss", b"\xff\0" * 9)  # type: ignore[arg-type]


@hostile
def deep_json(path: Path) -> None:
    changed(path, f"UPDATE stack SET frames = '{'[' * 200_000}'")


@hostile
def stack_too_deep(path: Path) -> None:
    changed(path, f"UPDATE stack SET frames = '[{', '.join(['1'] * 200_000)}]'")


@hostile
def deep_stacks_in_many_rows(path: Path) -> None:
    """The rows name one stack."""
    changed(path, f"UPDATE stack SET frames = '[{', '.join(['1'] * 256)}]'",
            f"{ENDLESS} INSERT INTO detail SELECT 900 + i, 1, 1, 'copied', 'anon', 'user', NULL, "
            "NULL, 1, NULL, NULL, 1, 1, NULL, NULL, NULL, NULL FROM n LIMIT 100000")  # fmt: skip


@hostile
def number_of_many_digits(path: Path) -> None:
    changed(path, f"UPDATE stack SET frames = '[{'1' * 4_000_000}]'")


@hostile
def text_of_900_mb_in_one_page(path: Path) -> None:
    """A chain of overflow pages whose only page names itself as the next."""
    changed(path, "INSERT INTO loss VALUES ('big', 0)")
    content = bytearray(path.read_bytes())
    root, pages = root_page(path, "loss"), len(content) // 4096
    size = 900_000_000
    header = varint(7) + varint(13 + 2 * size) + varint(1)  # of a record: text, an integer
    length = len(header) + size + 1
    local = 489 + (length - 489) % 4092  # of it in the cell: M + (P - M) % (U - 4)
    local = local if local <= 1002 else 489
    cell = varint(length) + header + b"x" * (local - len(header)) + struct.pack(">I", pages + 1)
    at = 4096 - len(cell)
    page = struct.pack(">BHHHBH", 10, 0, 1, at, 0, at).ljust(at, b"\0") + cell
    content[(root - 1) * 4096 : root * 4096] = page
    content += struct.pack(">I", pages + 1).ljust(4096, b"x")
    content[28:32] = struct.pack(">I", pages + 1)
    path.write_bytes(content)


@hostile
def texts_of_4_mb(path: Path) -> None:
    changed(path, "INSERT INTO frame SELECT value, hex(zeroblob(2000000)), '', 0, NULL "
            "FROM json_each('[901,902,903,904,905,906,907,908]')")  # fmt: skip


def root_page(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        (root,) = database.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)
        ).fetchone()
    return int(root)


def varint(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))


def endless(
    path: Path, table: str, cell_of: Callable[[int], bytes], kind: int, at: int = 0
) -> None:
    """A table as a tree of 11 levels, each page of which names the next one often: 100^10 rows.

    `cell_of`: a cell with the number of the page below; `at`: of the page's header.
    """
    changed(path)
    content = bytearray(path.read_bytes())
    root = root_page(path, table) if table else 1
    pages, leaf = len(content) // 4096, bytes(content[(root - 1) * 4096 : root * 4096])
    chain = [root, *range(pages + 1, pages + 11)]
    content += bytes(10 * 4096)
    for page, below in itertools.pairwise(chain):
        offset = at if page == root else 0
        cell = cell_of(below)
        start = 4096 - 100 * len(cell)
        head = struct.pack(">BHHHBI", kind, 0, 100, start, 0, below)
        head += b"".join(struct.pack(">H", start + n * len(cell)) for n in range(100))
        begin = (page - 1) * 4096
        content[begin + offset : begin + 4096] = head.ljust(start - offset, b"\0") + cell * 100
    content[(chain[-1] - 1) * 4096 : chain[-1] * 4096] = leaf[at:] + bytes(at)
    content[28:32] = struct.pack(">I", pages + 10)
    path.write_bytes(content)


@hostile
def frames_without_end(path: Path) -> None:
    endless(path, "frame", lambda below: struct.pack(">I", below) + varint(1), 5)


@hostile
def faults_without_end(path: Path) -> None:
    """What is sorted before a row comes out."""
    record = b"\x05\1\1\1\1" + b"\1\1\0\0"
    endless(path, "fault",
            lambda below: struct.pack(">I", below) + varint(len(record)) + record, 2)  # fmt: skip


@hostile
def definitions_without_end(path: Path) -> None:
    endless(path, "", lambda below: struct.pack(">I", below) + varint(1), 5, at=100)


@hostile
def rows_in_great_number(path: Path) -> None:
    changed(path, f"{ENDLESS} INSERT INTO process SELECT 9 + i, 1, 1, 'x', NULL, 0, NULL, NULL "
            "FROM n LIMIT 100000")  # fmt: skip


@hostile
def file_of_a_terabyte_of_holes(path: Path) -> None:
    changed(path)
    os.truncate(path, 1 << 40)


@hostile
def a_page_count_of_billions(path: Path) -> None:
    changed(path)
    with path.open("r+b") as file:
        file.seek(28)
        file.write(b"\xff\xff\xff\xfe")


@hostile
def integers_for_text(path: Path) -> None:
    changed(path, "UPDATE process SET comm = 7", "UPDATE meta SET value = 7 WHERE name = 'kernel'")


@hostile
def blobs_for_text(path: Path) -> None:
    changed(path, "UPDATE frame SET symbol = x'00ff', module = x'1b5b'")


@hostile
def no_numbers(path: Path) -> None:
    changed(path, "UPDATE fault SET faults = 9e999", "UPDATE interval SET at_ns = 9e999")


@hostile
def words_for_numbers(path: Path) -> None:
    changed(path, f"UPDATE mapping SET start = '{'9' * 4000}'")


@hostile
def a_sum_that_overflows(path: Path) -> None:
    changed(path, f"UPDATE fault SET faults = {(1 << 63) - 1}")


@hostile
def parents_in_a_ring(path: Path) -> None:
    changed(path, "UPDATE process SET parent = 3 - id", "UPDATE generation SET child = parent")


@hostile
def fifo_as_file(path: Path) -> None:
    os.mkfifo(path)


@hostile
def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@hostile
def link_to_the_terminal(path: Path) -> None:
    path.symlink_to("/dev/ptmx")


@hostile
def fifo_as_wal(path: Path) -> None:
    changed(path)
    os.mkfifo(f"{path}-wal")


@hostile
def link_as_wal(path: Path) -> None:
    changed(path)
    Path(f"{path}-wal").symlink_to("/dev/zero")


@hostile
def wal_of_a_terabyte_of_holes(path: Path) -> None:
    changed(path)
    Path(f"{path}-wal").touch()
    os.truncate(f"{path}-wal", 1 << 40)


@hostile
def fifo_as_shm(path: Path) -> None:
    write(path, intervals=2, close=False)
    Path(f"{path}-shm").unlink()
    os.mkfifo(f"{path}-shm")


@hostile
def fifo_as_journal(path: Path) -> None:
    changed(path)
    os.mkfifo(f"{path}-journal")
