"""Keep sums by mapping and stack from round to round, and resolve their names at once.

A process may be gone at the next look, so its mappings and stacks are named when first seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from cowtrace import model
from cowtrace.model import COPIES, DetailRow, FaultKind, MappingType, Origin, Source, Stack
from cowtrace.tracer.generations import Generations
from cowtrace.tracer.raw_counts import DetailKey, RawCounts, RawMapping, RawProcess, signed


@dataclass(slots=True)
class _Account:
    """One process's detail sums since attach."""

    sums: dict[DetailKey, tuple[int, int, int]] = field(default_factory=dict)
    mappings: dict[int, tuple[RawMapping, model.Mapping]] = field(default_factory=dict)
    stacks: dict[int, Stack | None] = field(default_factory=dict)
    rows: dict[DetailKey, DetailRow] = field(default_factory=dict)  # as of their last change


class DetailLedger:
    """All processes' details. `stack` names a stack: (id, pid, processes) -> frames."""

    def __init__(
        self,
        page_bytes: int,
        stack: Callable[[int, int | None, Mapping[int, RawProcess]], Stack | None],
    ) -> None:
        self._stack = stack
        self._accounts: dict[int, _Account] = {}
        self._ended: list[DetailRow] = []
        self.generations = Generations(page_bytes)

    def add(self, raw: RawCounts) -> None:
        """Enter one round."""
        if raw.details is None:
            return
        self.generations.update(raw.details.generations)
        for key, counted in raw.details.sums.items():
            pid, generation, kind = key[3:6]
            faults, copied, ns = signed(counted[0]), counted[1], counted[2]
            if kind in COPIES:
                self.generations.add_copied(generation, pid, copied)
            account = self._accounts.setdefault(pid, _Account())
            before = account.sums.get(key, (0, 0, 0))
            account.sums[key] = (before[0] + faults, before[1] + copied, before[2] + ns)
            self._refer(account, key, raw)
            account.rows.pop(key, None)

    def close(self, processes: Iterable[int]) -> list[tuple[int, int]]:
        """Processes that have ended; returns (tgid, start) of mappings that may be forgotten."""
        forgotten = []
        for pid in processes:
            if account := self._accounts.pop(pid, None):
                self._ended += self._show(account)
                forgotten += [(pid, start) for start in account.mappings]
        return forgotten

    def forget_ended(self) -> None:
        """Show no more what counted to processes and forks that have ended."""
        self._ended.clear()
        gone = self.generations.forget_ended()
        for account in self._accounts.values() if gone else ():
            for key in [key for key in account.sums if key[4] in gone]:
                del account.sums[key]
                account.rows.pop(key, None)

    def rows(self) -> tuple[DetailRow, ...]:
        """Sums since attach; those of processes that have ended first."""
        alive = (row for account in self._accounts.values() for row in self._show(account))
        return (*self._ended, *alive)

    def mapping(self, pid: int, start: int) -> model.Mapping | None:
        """As it was last seen."""
        account = self._accounts.get(pid)
        known = account.mappings.get(start) if account else None
        return known[1] if known else None

    def _refer(self, account: _Account, key: DetailKey, raw: RawCounts) -> None:
        """Resolve what a key refers to while that can be done."""
        assert raw.details is not None
        start, user, kernel, pid = key[:4]
        found = raw.details.mappings.get((pid, start))
        known = account.mappings.get(start)
        if found and (known is None or known[0] != found):
            account.mappings[start] = (found, as_mapping(pid, start, found))
            account.rows.clear()
        for number, owner in ((user, pid), (kernel, None)):
            if number and number not in account.stacks:
                account.stacks[number] = self._stack(number, owner, raw.processes)

    def _show(self, account: _Account) -> Iterable[DetailRow]:
        for key, sums in account.sums.items():
            if key not in account.rows and sums != (0, 0, 0):
                account.rows[key] = self._row(account, key, sums)
        return account.rows.values()

    def _row(self, account: _Account, key: DetailKey, sums: tuple[int, int, int]) -> DetailRow:
        start, user, kernel, pid, generation, kind, source, origin, latency = key
        faults, copied, ns = sums
        mapping = account.mappings.get(start)
        return DetailRow(
            pid=pid,
            kind=FaultKind(kind),
            source=Source(source),
            origin=Origin(origin),
            generation=self.generations.number(generation),
            mapping=mapping[1] if mapping else None,
            user_stack=account.stacks.get(user),
            kernel_stack=account.stacks.get(kernel),
            latency=latency - 1 if latency else None,
            faults=faults,
            bytes=copied,
            ns=ns if latency else None,
        )


def as_mapping(pid: int, start: int, raw: RawMapping) -> model.Mapping:
    """struct mapping of bpf/cow.h as a value; a file's whole path while the process lives."""
    end, flags, inode, _, kind, text = raw
    name = text.split(b"\0", 1)[0]
    if kind in (MappingType.FILE, MappingType.HUGETLB):
        with suppress(OSError):
            path = os.readlink(b"/proc/%d/map_files/%x-%x" % (pid, start, end))  # noqa: PTH115 - bytes
            if path.removesuffix(b" (deleted)").endswith(name):
                name = path
    return model.Mapping(
        start=start,
        end=end,
        type=MappingType(kind),
        flags=flags,
        name=name.decode(errors="backslashreplace"),
        inode=inode,
    )
