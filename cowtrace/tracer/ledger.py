"""Keep the sums of each process since attach: rounds in, processes out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from operator import add
from typing import NamedTuple

from cowtrace.kernel.plan import ProbePlan
from cowtrace.model import ENDED_PID, FaultKind, FaultRow, Origin, PageFaults, Process, Source
from cowtrace.tracer import abi
from cowtrace.tracer.folding import parted
from cowtrace.tracer.rounds import Round

_UNKNOWN = abi.Process(0, 0, 0, 0, 0, b"")
_ENDED = abi.Process(0, 1, 0, 0, 0, b"[ended]")  # it stands for many
_NO_PAGE_FAULTS = abi.PageFaultSum(0, 0, 0)


class _Row(NamedTuple):
    kind: int
    source: int
    origin: int
    actor: int


@dataclass(slots=True)
class _Account:
    """The sums of one process."""

    info: abi.Process = _UNKNOWN
    rows: dict[_Row, tuple[int, int]] = field(default_factory=dict)
    page_faults: abi.PageFaultSum = _NO_PAGE_FAULTS
    process: Process | None = None  # as of the last change; None: it has changed since

    def add(self, row: _Row, faults: int, copied: int) -> None:
        before = self.rows.get(row, (0, 0))
        self.rows[row] = (before[0] + faults, before[1] + copied)

    def add_page_faults(self, counted: Iterable[int]) -> None:
        self.page_faults = abi.PageFaultSum(*map(add, self.page_faults, counted))


class Ledger:
    """The sums of all processes. A round costs as much as what changed in it."""

    def __init__(self, plan: ProbePlan, *, page_faults: bool = False) -> None:
        self._plan = plan
        self._totals = page_faults
        self.round = 0  # number of the last one that was added
        self._accounts: dict[int, _Account] = {}
        self._ended: list[Process] = []
        self._just_ended: set[tuple[int, int]] = set()  # in the last round: pid, start_ns

    def add(self, raw: Round) -> dict[int, abi.Process]:
        """Add one round. Returns processes to be forgotten: they ended before the last round.

        Not those that ended in it: a last thread still clears its thread id in user memory, which
        can fault.
        """
        self.round += 1
        for tgid, info in raw.processes.items():
            account = self._accounts.get(tgid) or self._open(tgid)
            if account.info is not _UNKNOWN and account.info.start_ns != info.start_ns:
                account = self._open(tgid)
            if account.info != info:
                account.info, account.process = info, None
        for tgid, rows in self._by_process(raw).items():
            account = self._accounts.get(tgid) or self._open(tgid)
            account.process = None
            for row, (faults, copied) in rows.items():
                account.add(row, faults, copied)
        for tgid, counted in (raw.page_faults or {}).items():
            account = self._accounts.get(tgid) or self._open(tgid)
            account.process = None
            account.add_page_faults(counted)
        return self._close_ended(raw)

    def living(self) -> Container[int]:
        """Pids of processes that have not ended, as far as is known."""
        return self._accounts.keys()

    def processes(self) -> tuple[Process, ...]:
        """Ended processes, in the order of their ends, then living ones, by pid."""
        alive = (self._process(tgid, self._accounts[tgid]) for tgid in sorted(self._accounts))
        return (*self._ended, *alive)

    def forget_ended(self) -> None:
        """Leave ended processes out from now on."""
        self._ended.clear()

    def fold_ended(self, most: int) -> None:
        """Keep the largest ended processes by themselves, the sums of the others in one."""
        self._ended, others = parted(self._ended, most, lambda process: process.faults)
        if not others:
            return
        account = self._accounts.get(ENDED_PID) or self._open(ENDED_PID)
        account.process = None
        for process in others:
            for row in process.rows:
                key = _Row(row.kind, row.source, row.origin, 0)
                account.add(key, row.faults, row.bytes)
            if each := process.page_faults:
                account.add_page_faults((each.user, each.kernel, each.write_protect))

    def _open(self, tgid: int) -> _Account:
        """A new account; an earlier process of that pid has ended."""
        if tgid in self._accounts:
            self._end(tgid)
        self._accounts[tgid] = account = _Account(_UNKNOWN if tgid else _ENDED)
        return account

    def _end(self, tgid: int) -> abi.Process:
        account = self._accounts.pop(tgid)
        account.info = account.info._replace(exited=1)
        account.process = None
        self._ended.append(self._process(tgid, account))
        return account.info

    def _close_ended(self, raw: Round) -> dict[int, abi.Process]:
        ended = {(tgid, info.start_ns) for tgid, info in raw.processes.items() if info.exited}
        before = ended & self._just_ended
        self._just_ended = ended - before
        return {tgid: self._end(tgid) for tgid, _ in before if tgid in self._accounts}

    def _by_process(self, raw: Round) -> dict[int, dict[_Row, tuple[int, int]]]:
        found: dict[int, dict[_Row, tuple[int, int]]] = defaultdict(dict)
        for (tgid, actor, kind, source, origin, _), (faults, copied) in raw.sums.items():
            found[tgid][_Row(kind, source, origin, actor)] = (abi.signed(faults), copied)
        return found

    def _process(self, tgid: int, account: _Account) -> Process:
        if account.process is None:
            info = account.info
            account.process = Process(
                pid=tgid,
                comm=abi.text(info.comm),
                parent=info.parent or None,
                exited=bool(info.exited),
                page_faults=PageFaults(*account.page_faults) if self._totals else None,
                rows=tuple(
                    FaultRow(FaultKind(kind), Source(source), Origin(origin), actor or None, *sums)
                    for (kind, source, origin, actor), sums in sorted(account.rows.items())
                    if sums != (0, 0)
                ),
                unseen=self._plan.unseen,
                start_ns=info.start_ns or None,
                changed_in=self.round,
            )
        return account.process
