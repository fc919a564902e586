"""Write forks, details and samples of a snapshot: sums as of the last interval."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Iterable

from cowtrace.model import DetailRow, ForkGeneration, Mapping, Snapshot, Stack, StackFrame
from cowtrace.recording.schema import text

_Key = tuple[object, ...]
_Sums = tuple[int, int, int | None]  # faults, bytes, ns

_UPDATE = """
INSERT INTO detail VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    mapping = excluded.mapping, faults = excluded.faults, bytes = excluded.bytes, ns = excluded.ns
"""


class DetailWriter:
    """Writes what changed since the snapshot before, in the transaction that is open."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._generations: dict[int, ForkGeneration] = {}
        self._mappings: dict[Mapping, int] = {}
        self._stacks: dict[Stack, int] = {}
        self._frames: dict[StackFrame, int] = {}
        self._keys: dict[int, tuple[DetailRow, _Key]] = {}  # by id() of a row that is still shown
        self._written: dict[_Key, tuple[int, _Sums]] = {}

    def add(self, now: Snapshot) -> None:
        """The whole of them."""
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
                # Two processes that had the same pid, one after the other, are one here.
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
        """Each row and its columns from sampled to latency, the mapping by its start."""
        for row in rows:
            known = self._keys.get(id(row))
            yield (
                row,
                known[1]
                if known
                else (
                    sampled,
                    row.pid,
                    row.kind.label,
                    row.source.name.lower(),
                    row.origin.name.lower(),
                    row.generation,
                    row.mapping.start
                    if row.mapping
                    else None,  # it may grow, and is still the same
                    self._stack(row.user_stack),
                    self._stack(row.kernel_stack),
                    row.latency,
                ),
            )

    def _write_generation(self, generation: ForkGeneration) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO generation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
        if mapping not in self._mappings:
            self._mappings[mapping] = len(self._mappings) + 1
            kind = mapping.type.name.lower()
            start, end = _signed(mapping.start), _signed(mapping.end)
            self._database.execute(
                "INSERT INTO mapping VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    self._mappings[mapping],
                    start,
                    end,
                    kind,
                    _signed(mapping.flags),
                    text(mapping.name),
                    _signed(mapping.inode),
                ),
            )
        return self._mappings[mapping]

    def _stack(self, stack: Stack | None) -> int | None:
        if stack is None:
            return None
        if stack not in self._stacks:
            frames = json.dumps([self._frame(frame) for frame in stack])
            self._stacks[stack] = len(self._stacks) + 1
            self._database.execute("INSERT INTO stack VALUES (?, ?)", (self._stacks[stack], frames))
        return self._stacks[stack]

    def _frame(self, frame: StackFrame) -> int:
        if frame not in self._frames:
            self._frames[frame] = len(self._frames) + 1
            symbol, module, address = dataclasses.astuple(frame)
            self._database.execute(
                "INSERT INTO frame VALUES (?, ?, ?, ?)",
                (self._frames[frame], text(symbol), text(module), _signed(address)),
            )
        return self._frames[frame]


def _signed(word: int) -> int:
    """SQLite's integers have 64 bits and a sign; addresses of the kernel have the highest bit."""
    return word - (1 << 64) if word >> 63 else word
