"""Write forks, details, samples and private memory of a snapshot: sums as of the last interval."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Hashable, Set

from cowtrace.model import (
    Account,
    Cause,
    DetailRow,
    ForkGeneration,
    Mapping,
    Snapshot,
    Stack,
    StackFrame,
    known_sum,
)
from cowtrace.recording.tables import put, stored, values, word_of

# Columns of the table detail: from sampled to latency, then from cause to phase.
_Key = tuple[object, ...]
_Sums = tuple[int, int, int | None]  # faults, bytes, ns
_NOTHING: _Sums = (0, 0, None)
_MOST_IDS = 1 << 13  # that are kept of a table
# Of a fork that is in the file.
_CHANGING = "ended_ns", "ended_by", "parent_copied_bytes", "child_copied_bytes", "first_second_ns"
_MAPPING, _WRITTEN = 6, 10  # their indexes in a key
_ACCOUNT = (
    *("pid", "comm", "ended", "began", "now", "moved", "files", "anonymous", "swap", "unread"),
)


class DetailWriter:
    """Writes what changed since the previous snapshot, within the open transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._generations: dict[int, ForkGeneration] = {}
        self._ids: dict[str, dict[object, int]] = defaultdict(dict)  # by table and value
        self._keys: dict[int, tuple[DetailRow, _Key]] = {}  # by id() of a row that is still shown
        self._written: dict[_Key, tuple[int, _Sums]] = {}  # of rows that are still shown
        self._sums: dict[Hashable, _Sums] = {}  # of the previous snapshot
        self._last: Counter[str] = Counter()  # ids, by table
        self._accounts: tuple[Account, ...] = ()

    def add(self, now: Snapshot) -> None:
        """Write the forks, details, samples and private memory of one snapshot."""
        if now.accounts is not self._accounts:
            self._replace(now.accounts)
        shown = {generation.number for generation in now.generations}
        self._generations = {n: g for n, g in self._generations.items() if n in shown}
        for generation in now.generations:
            if self._generations.get(generation.number) is not generation:
                self._generations[generation.number] = generation
                put(self._database, "generation", values(generation), _CHANGING)
        sums: dict[Hashable, tuple[_Key, _Sums]] = {}
        mappings: dict[_Key, int | None] = {}
        keys = {}
        for sampled, rows in ((0, now.details), (1, now.samples)):
            for row in rows:
                known = self._keys.get(id(row))
                key = known[1] if known else self._key(row, sampled)
                keys[id(row)] = row, key
                mappings[key] = self._id("mapping", row.mapping)
                identity = row.number or key
                before = sums[identity][1] if identity in sums else _NOTHING
                sums[identity] = key, _added(before, (row.faults, row.bytes, row.ns))
        self._keys = keys
        self._forget_ids(now)
        # What is no longer shown has ended. If its key comes back, that is another row.
        self._written = {key: one for key, one in self._written.items() if key in mappings}
        for key, more in self._grown(sums).items():
            number, written = self._written.get(key, (0, _NOTHING))
            if not number:
                self._last["detail"] += 1
                number = self._last["detail"]
            self._written[key] = number, total = number, _added(written, more)
            about = (*key[:_MAPPING], mappings[key], *key[_MAPPING + 1 : _WRITTEN])
            columns = (number, *about, *total, *key[_WRITTEN:])
            put(self._database, "detail", columns, ("mapping", "faults", "bytes", "ns"))

    def _grown(self, sums: dict[Hashable, tuple[_Key, _Sums]]) -> dict[_Key, _Sums]:
        """By how much, since the previous snapshot. A row that was forgotten begins anew.

        Several have one key: of two processes with the same pid, or samples of a mapping that grew.
        """
        found: dict[_Key, _Sums] = {}
        for identity, (key, now) in sums.items():
            before = self._sums.get(identity)
            if before != now:
                faults, size, ns = before or _NOTHING
                more = (
                    now[0] - faults,
                    now[1] - size,
                    None if now[2] is None else now[2] - (ns or 0),
                )
                found[key] = _added(found.get(key, _NOTHING), more)
        self._sums = {identity: now for identity, (_, now) in sums.items()}
        return found

    def _key(self, row: DetailRow, sampled: int) -> _Key:
        """Columns that distinguish rows. A mapping can grow, or give its place to another one."""
        of = row.mapping
        place = (of.start, of.type, of.inode) if of else None
        stacks = self._id("stack", row.user_stack), self._id("stack", row.kernel_stack)
        words = word_of(row.kind), word_of(row.source), word_of(row.origin)
        written: tuple[object, ...] = (None, None, None)
        if what := row.written:
            phase = what.phase and word_of(what.phase)
            written = word_of(what.cause), stored(what.type), phase
        return (sampled, row.pid, *words, row.generation, place, *stacks, row.latency, *written)

    def _forget_ids(self, now: Snapshot) -> None:
        """Where there are too many, keep those of what is shown: others may be written twice."""
        rows = (*now.details, *now.samples)
        if len(self._ids["mapping"]) > _MOST_IDS + len(rows):
            self._keep("mapping", {row.mapping for row in rows})
        if max(len(self._ids["stack"]), len(self._ids["frame"])) > _MOST_IDS + len(rows):
            self._keep("stack", {stack for r in rows for stack in (r.user_stack, r.kernel_stack)})
            self._keep("frame", set())

    def _keep(self, table: str, shown: Set[object]) -> None:
        ids = self._ids[table]
        self._ids[table] = {value: ids[value] for value in ids.keys() & shown}

    def _id(self, table: str, value: Mapping | Stack | StackFrame | None) -> int | None:
        """The id of a value, which is written to its table once."""
        if value is None:
            return None
        ids = self._ids[table]
        if value not in ids:
            if isinstance(value, tuple):
                columns: list[object] = [json.dumps([self._id("frame", each) for each in value])]
            else:
                columns = values(value)
            self._last[table] += 1
            ids[value] = self._last[table]
            put(self._database, table, (ids[value], *columns))
        return ids[value]

    def _replace(self, accounts: tuple[Account, ...]) -> None:
        """All of them: few change little."""
        self._accounts = accounts
        for table in ("account_cause", "account"):
            self._database.execute(f"DELETE FROM {table}")
        for number, one in enumerate(accounts, 1):
            about = (stored(getattr(one, name)) for name in _ACCOUNT)
            put(self._database, "account", (number, *about))
            traced = one.traced or {}
            for cause in Cause:
                if one.bytes(cause) or cause in traced:
                    row = number, word_of(cause), one.bytes(cause), traced.get(cause)
                    put(self._database, "account_cause", row)


def _added(one: _Sums, other: _Sums) -> _Sums:
    return one[0] + other[0], one[1] + other[1], known_sum(one[2], other[2])
