"""Write forks, details and samples of a snapshot: sums as of the last interval."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable

from cowtrace.model import DetailRow, ForkGeneration, Mapping, Snapshot, Stack, StackFrame
from cowtrace.recording.tables import insert, text

_Key = tuple[object, ...]
_Sums = tuple[int, int, int | None]  # faults, bytes, ns

_UPDATE = insert("detail", 14, update=("mapping", "faults", "bytes", "ns"))


class DetailWriter:
    """Writes what changed since the previous snapshot, within the open transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._generations: dict[int, ForkGeneration] = {}
        self._ids: dict[str, dict[Hashable, int]] = defaultdict(dict)  # by table and value
        self._keys: dict[int, tuple[DetailRow, _Key]] = {}  # by id() of a row that is still shown
        self._written: dict[_Key, tuple[int, _Sums]] = {}

    def add(self, now: Snapshot) -> None:
        """Write the forks, details and samples of one snapshot."""
        for generation in now.generations:
            if self._generations.get(generation.number) is not generation:
                self._generations[generation.number] = generation
                self._write_generation(generation)
        sums: dict[_Key, _Sums] = {}
        mappings: dict[_Key, int | None] = {}
        keys = {}
        for sampled, rows in ((0, now.details), (1, now.samples)):
            for row, key in self._keyed(rows, sampled):
                keys[id(row)] = row, key
                mappings[key] = self._mapping(row.mapping)
                # Two processes with the same pid, one after the other, share a row.
                before = sums.get(key, (0, 0, None))
                ns = before[2] if row.ns is None else (before[2] or 0) + row.ns
                sums[key] = before[0] + row.faults, before[1] + row.bytes, ns
        self._keys = keys
        for key, total in sums.items():
            number, written = self._written.get(key, (len(self._written) + 1, None))
            if total != written:
                self._written[key] = number, total
                row_key = (*key[:6], mappings[key], *key[7:])
                self._database.execute(_UPDATE, (number, *row_key, *total))

    def _keyed(self, rows: Iterable[DetailRow], sampled: int) -> Iterable[tuple[DetailRow, _Key]]:
        """Each row with its columns from sampled to latency; the mapping as its start."""
        for row in rows:
            if cached := self._keys.get(id(row)):
                yield row, cached[1]
                continue
            yield (
                row,
                (
                    sampled,
                    row.pid,
                    row.kind.label,
                    row.source.name.lower(),
                    row.origin.name.lower(),
                    row.generation,
                    row.mapping.start if row.mapping else None,  # it may grow, and stays the same
                    self._stack(row.user_stack),
                    self._stack(row.kernel_stack),
                    row.latency,
                ),
            )

    def _write_generation(self, generation: ForkGeneration) -> None:
        self._database.execute(
            insert(
                "generation",
                9,
                update=("ended_ns", "ended_by", "parent_copied_bytes", "child_copied_bytes"),
            ),
            (
                generation.number,
                generation.parent,
                generation.child,
                generation.at_ns,
                generation.shareable_bytes,
                generation.ended_ns,
                generation.ended_by.value if generation.ended_by else None,
                generation.parent_copied_bytes,
                generation.child_copied_bytes,
            ),
        )

    def _mapping(self, mapping: Mapping | None) -> int | None:
        if mapping is None:
            return None
        return self._id(
            "mapping",
            mapping,
            lambda: (
                _signed(mapping.start),
                _signed(mapping.end),
                mapping.type.name.lower(),
                _signed(mapping.flags),
                text(mapping.name),
                _signed(mapping.inode),
            ),
        )

    def _stack(self, stack: Stack | None) -> int | None:
        if stack is None:
            return None
        return self._id("stack", stack, lambda: (json.dumps(list(map(self._frame, stack))),))

    def _frame(self, frame: StackFrame) -> int:
        return self._id(
            "frame",
            frame,
            lambda: (text(frame.symbol), text(frame.module), _signed(frame.address)),
        )

    def _id(self, table: str, value: Hashable, columns: Callable[[], tuple[object, ...]]) -> int:
        """The id of a value, which is written to its table once."""
        ids = self._ids[table]
        if value not in ids:
            row = columns()
            ids[value] = len(ids) + 1
            self._database.execute(insert(table, 1 + len(row)), (ids[value], *row))
        return ids[value]


def _signed(word: int) -> int:
    """SQLite's integers have 64 bits and a sign; addresses of the kernel have the highest bit."""
    return word - (1 << 64) if word >> 63 else word
