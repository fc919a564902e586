"""Keep the detail sums of each process since attach, and name their mappings and stacks.

Names are resolved when first seen: a process may have ended by the next round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from cowtrace import model
from cowtrace.model import COPIES, DetailRow, FaultKind, MappingType, Origin, Source, Stack
from cowtrace.tracer import abi
from cowtrace.tracer.events import is_exact
from cowtrace.tracer.folding import fold_rows
from cowtrace.tracer.generations import Generations
from cowtrace.tracer.process_files import in_time, mapped_path
from cowtrace.tracer.rounds import Round

# A traced process can make mappings and stacks without end. Of the sums beyond these, mapping and
# stack are unknown.
_MOST_OF_A_PROCESS = 1 << 13
_PATH_SECONDS = 1.0  # of a round, to ask for whole paths; of other files, the last part is known
_MOST = 1 << 14
_MANY = 1 << 12  # then those that do not change can be forgotten, by who has written them down
SUM_NUMBERS = count(1)  # of rows of details and samples alike


@dataclass(slots=True)
class _Sum:
    """struct detail_sum since attach."""

    faults: int = 0
    bytes: int = 0
    ns: int = 0
    tlb_flush_ns: int = 0
    changed: bool = False  # since what has ended was forgotten
    shown: bool = False  # it has a row
    row: DetailRow | None = None  # as of the last change; None: it has changed since
    number: int = field(default_factory=partial(next, SUM_NUMBERS))


@dataclass(slots=True)
class _Account:
    """One process's detail sums since attach."""

    sums: dict[abi.DetailKey, _Sum] = field(default_factory=dict)
    mappings: dict[int, tuple[abi.Mapping, model.Mapping]] = field(default_factory=dict)
    stacks: dict[int, Stack | None] = field(default_factory=dict)


class DetailLedger:
    """The detail sums of all processes. `stack` names one: (id, pid, processes) -> frames.

    `by_fork`: rows of different forks stay apart. A server that forks for days has many, so they
    are one where nobody asked. `generations_alone`: keep what forks copied, and no rows.
    `timed`: faults are. `tlb_flushes`: they are, too. `exact`: the plan shows addresses of bytes.
    """

    def __init__(
        self,
        page_bytes: int,
        stack: Callable[[int, int | None, Mapping[int, abi.Process]], Stack | None],
        *,
        by_fork: bool = True,
        generations_alone: bool = False,
        timed: bool = False,
        tlb_flushes: bool = False,
        exact: bool = False,
    ) -> None:
        self._stack = stack
        self._by_fork = by_fork
        self._generations_alone = generations_alone
        self._tlb_flushes = tlb_flushes
        self._exact = exact
        self._accounts: dict[int, _Account] = {}
        self._ended: list[DetailRow] = []
        self._unused: Set[abi.MappingKey] = set()  # mappings that were only read once
        self._needless: Set[abi.MappingKey] = set()  # that the kernel side has just forgotten
        self._kept = 0  # sums of all processes
        self._path_seconds = _PATH_SECONDS
        self.folded = 0  # sums that lost their mapping and stack
        self.generations = Generations(page_bytes, timed=timed)

    def add(self, raw: Round) -> None:
        """Add one round."""
        if raw.details is None:
            return
        self._path_seconds = _PATH_SECONDS
        self.generations.update(raw.details.generations, raw.end_ns, raw.half)
        self._end_replaced(raw.details.mappings)
        for key, counted in raw.details.sums:
            if key.kind in COPIES:
                self.generations.add_copied(key.generation, key.tgid, counted.bytes)
            if self._generations_alone:
                continue
            account = self._accounts.setdefault(key.tgid, _Account())
            # The same row, whichever half counted it.
            key = key._replace(half=0, generation=key.generation if self._by_fork else 0)
            if key not in account.sums:
                key = self._bounded(account, key)
            kept = account.sums.get(key)
            if kept is None:
                kept = account.sums[key] = _Sum()
                self._kept += 1
            kept.faults += abi.signed(counted.faults)
            kept.bytes += counted.bytes
            kept.ns += counted.ns
            kept.tlb_flush_ns += counted.tlb_flush_ns
            kept.changed, kept.row = True, None
            self._refer(account, key, raw)

    def close(self, processes: Iterable[int]) -> None:
        """End processes."""
        for pid in processes:
            if account := self._accounts.pop(pid, None):
                self._ended += self._rows(account, account.sums)
        if not self._by_fork:
            self.generations.forget_ended()

    def needless(self, mappings: Mapping[abi.MappingKey, abi.Mapping]) -> set[abi.MappingKey]:
        """Those that the kernel side may forget: known here, or unused for a round.

        One that is used again is noted again, at the latest in the next round. Else its map would
        fill up in the course of time.
        """
        found = {
            key
            for key, raw in mappings.items()
            if key in self._unused or raw == self._seen(key.tgid, key.start)[0]
        }
        self._unused = mappings.keys() - found
        self._needless = found
        return found

    def forget_ended(self) -> None:
        """Leave out what is attributed to ended processes and forks from now on.

        And sums that have not changed since, where there are many: they begin anew.
        """
        self._ended.clear()
        gone = self.generations.forget_ended()
        self._recount()
        many = self._kept > _MANY
        for pid, account in self._accounts.items() if gone or many else ():
            account.sums = {
                key: kept
                for key, kept in account.sums.items()
                if key.generation not in gone and (kept.changed or not many)
            }
            used = {key.mapping for key in account.sums}
            # A fault of the round that runs can be in a mapping that was noted before.
            account.mappings = {
                at: one
                for at, one in account.mappings.items()
                if at in used or abi.MappingKey(at, pid) in self._needless
            }
        for account in self._accounts.values():
            for kept in account.sums.values():
                kept.changed = False
        self._recount()

    def fold_ended(self, most: int) -> None:
        """Keep the largest sums of ended processes; of the others, process and mapping are lost."""
        self._ended, folded = fold_rows(self._ended, most)
        self.folded += folded
        self._recount()

    def rows(self) -> tuple[DetailRow, ...]:
        """Sums since attach; those of ended processes first."""
        accounts = self._accounts.values()
        alive = (row for each in accounts for row in self._rows(each, each.sums))
        return (*self._ended, *alive)

    def mapping(self, pid: int, start: int) -> model.Mapping | None:
        """A mapping, as last seen."""
        return self._seen(pid, start)[1]

    def _seen(self, pid: int, start: int) -> tuple[abi.Mapping, model.Mapping] | tuple[None, None]:
        account = self._accounts.get(pid)
        return account.mappings.get(start, (None, None)) if account else (None, None)

    def _recount(self) -> None:
        """Those of ended processes no longer count."""
        self._kept = sum(len(account.sums) for account in self._accounts.values())

    def _bounded(self, account: _Account, key: abi.DetailKey) -> abi.DetailKey:
        """A new key, without mapping and stack if there are too many."""
        if len(account.sums) >= _MOST_OF_A_PROCESS or self._kept >= _MOST:
            self.folded += 1
            key = key._replace(mapping=0, user_stack=0, kernel_stack=0)
        return key

    def _refer(self, account: _Account, key: abi.DetailKey, raw: Round) -> None:
        """Resolve what a key refers to, while the process lives."""
        assert raw.details is not None
        found = raw.details.mappings.get(abi.MappingKey(key.mapping, key.tgid))
        seen = account.mappings.get(key.mapping)
        if found and (seen is None or seen[0] != found):
            began = time.monotonic()
            whole_path = self._path_seconds > 0
            named = as_mapping(key.tgid, key.mapping, found, whole_path=whole_path)
            self._path_seconds -= time.monotonic() - began
            account.mappings[key.mapping] = (found, named)
            for kept in account.sums.values():
                kept.row = None
        for number, owner in ((key.user_stack, key.tgid), (key.kernel_stack, None)):
            if number and number not in account.stacks:
                account.stacks[number] = self._stack(number, owner, raw.processes)

    def _end_replaced(self, mappings: Mapping[abi.MappingKey, abi.Mapping]) -> None:
        """Where another mapping has taken the place of one, its sums do not change any more.

        Of those beyond many, they go on with the other one's name.
        """
        replaced: dict[int, set[int]] = {}
        for (start, pid), found in mappings.items():
            seen = self._seen(pid, start)[0]
            if seen and _contents(seen) != _contents(found):
                replaced.setdefault(pid, set()).add(start)
        for pid, starts in replaced.items():
            account = self._accounts[pid]
            gone = {key: kept for key, kept in account.sums.items() if key.mapping in starts}
            if len(self._ended) + len(gone) > _MOST:
                self.folded += len(gone)
                continue
            self._ended += self._rows(account, gone)
            for key in gone:
                del account.sums[key]
            self._kept -= len(gone)

    def _rows(self, account: _Account, sums: Mapping[abi.DetailKey, _Sum]) -> Iterable[DetailRow]:
        """Of some or all of its sums."""
        for key, kept in sums.items():
            # One that was taken back stays, with 0: else it would pass for new when it returns.
            kept.shown |= kept.faults > 0 or kept.bytes > 0 or kept.ns > 0
            if kept.shown:
                kept.row = kept.row or self._row(account, key, kept)
                yield kept.row

    def _row(self, account: _Account, key: abi.DetailKey, kept: _Sum) -> DetailRow:
        mapping = account.mappings.get(key.mapping)
        return DetailRow(
            pid=key.tgid,
            kind=FaultKind(key.kind),
            source=Source(key.source),
            origin=Origin(key.origin),
            generation=self.generations.number(key.generation),
            mapping=mapping[1] if mapping else None,
            user_stack=account.stacks.get(key.user_stack),
            kernel_stack=account.stacks.get(key.kernel_stack),
            latency=key.latency - 1 if key.latency else None,
            faults=max(0, kept.faults),  # taken back from a mapping that was replaced meanwhile
            bytes=kept.bytes,
            ns=kept.ns if key.latency else None,
            tlb_flush_ns=kept.tlb_flush_ns if key.latency and self._tlb_flushes else None,
            eighth=key.eighth - 1 if key.eighth and self._shows_eighths(key) else None,
            number=kept.number,
        )

    def _shows_eighths(self, key: abi.DetailKey) -> bool:
        return self._exact and is_exact(key.origin, key.source)


def _contents(mapping: abi.Mapping) -> tuple[int, int, int]:
    """What distinguishes it from another one with the same start: it may grow, or be renamed."""
    return mapping.type, mapping.device, mapping.inode


def as_mapping(pid: int, start: int, raw: abi.Mapping, *, whole_path: bool = True) -> model.Mapping:
    """struct mapping of bpf/cow.h as a value; a file's whole path while the process lives."""
    name = raw.name.partition(b"\0")[0]
    if whole_path and raw.type in (MappingType.FILE, MappingType.HUGETLB):
        path = in_time(partial(mapped_path, pid, start, raw.end))
        if path and path.removesuffix(b" (deleted)").endswith(name):
            name = path
    return model.Mapping(
        start=start,
        end=raw.end,
        type=MappingType(raw.type),
        flags=raw.flags,
        name=name.decode(errors="backslashreplace"),
        inode=raw.inode,
    )
