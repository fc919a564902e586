"""Write forks, details and samples of a snapshot: sums as of the last interval."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict

from cowtrace.model import DetailRow, ForkGeneration, Mapping, Snapshot, Stack, StackFrame
from cowtrace.recording.tables import put, values, word_of

_Key = tuple[object, ...]  # columns of the table detail, from sampled to latency
_Sums = tuple[int, int, int | None]  # faults, bytes, ns
_MAPPING = 6  # its index in a key


class DetailWriter:
    """Writes what changed since the previous snapshot, within the open transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._generations: dict[int, ForkGeneration] = {}
        self._ids: dict[str, dict[object, int]] = defaultdict(dict)  # by table and value
        self._keys: dict[int, tuple[DetailRow, _Key]] = {}  # by id() of a row that is still shown
        self._written: dict[_Key, tuple[int, _Sums]] = {}

    def add(self, now: Snapshot) -> None:
        """Write the forks, details and samples of one snapshot."""
        for generation in now.generations:
            if self._generations.get(generation.number) is not generation:
                self._generations[generation.number] = generation
                update = "ended_ns", "ended_by", "parent_copied_bytes", "child_copied_bytes"
                put(self._database, "generation", values(generation), update)
        sums: dict[_Key, _Sums] = {}
        mappings: dict[_Key, int | None] = {}
        keys = {}
        for sampled, rows in ((0, now.details), (1, now.samples)):
            for row in rows:
                known = self._keys.get(id(row))
                key = known[1] if known else self._key(row, sampled)
                keys[id(row)] = row, key
                mappings[key] = self._id("mapping", row.mapping)
                # Two processes with the same pid, one after the other, share a row.
                before = sums.get(key, (0, 0, None))
                ns = before[2] if row.ns is None else (before[2] or 0) + row.ns
                sums[key] = before[0] + row.faults, before[1] + row.bytes, ns
        self._keys = keys
        for key, total in sums.items():
            number, written = self._written.get(key, (len(self._written) + 1, None))
            if total != written:
                self._written[key] = number, total
                columns = (number, *key[:_MAPPING], mappings[key], *key[_MAPPING + 1 :], *total)
                put(self._database, "detail", columns, ("mapping", "faults", "bytes", "ns"))

    def _key(self, row: DetailRow, sampled: int) -> _Key:
        """Columns that distinguish rows. A mapping counts by its start: it can grow."""
        start = row.mapping.start if row.mapping else None
        stacks = self._id("stack", row.user_stack), self._id("stack", row.kernel_stack)
        words = word_of(row.kind), word_of(row.source), word_of(row.origin)
        return (sampled, row.pid, *words, row.generation, start, *stacks, row.latency)

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
            ids[value] = len(ids) + 1
            put(self._database, table, (ids[value], *columns))
        return ids[value]
