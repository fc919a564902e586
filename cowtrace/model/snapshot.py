"""All counts at one moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from operator import attrgetter

from cowtrace.model.completeness import OUTSIDE_FAULTS, Completeness
from cowtrace.model.details import DetailRow
from cowtrace.model.faults import FaultKind
from cowtrace.model.forks import ForkGeneration
from cowtrace.model.private_memory import Account
from cowtrace.model.processes import ENDED_PID, Process


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All counts at one moment: sums since attach. analysis/processes.py computes rates."""

    at_ns: int  # CLOCK_MONOTONIC
    attached_ns: int  # CLOCK_MONOTONIC
    plan: str  # kprobe, fentry or tracepoint
    kernel: str  # uname -r
    page_bytes: int
    processes: tuple[Process, ...]
    completeness: Completeness
    unseen: frozenset[FaultKind]
    details: tuple[DetailRow, ...] = ()  # empty unless requested
    generations: tuple[ForkGeneration, ...] = ()  # likewise; by number
    samples: tuple[DetailRow, ...] = ()  # copies by user stack: estimates, see tracer.attach
    accounts: tuple[Account, ...] = ()  # of private memory, likewise
    round: int = field(default=0, repr=False, compare=False)  # number of its round of counting

    @property
    def unclassified(self) -> int:
        return sum(map(attrgetter("unclassified"), self.processes))

    def process(self, pid: int) -> Process | None:
        """The newest process of that pid."""
        return next((p for p in reversed(self.processes) if p.pid == pid), None)

    def changed_since(self, before: Snapshot | None) -> Iterable[Process]:
        """Processes that changed after an earlier snapshot of the same tracer; None: all."""
        if before is None:
            return self.processes
        return [process for process in self.processes if process.changed_in > before.round]

    def families(self, roots: Iterable[int]) -> set[int]:
        """Pids of `roots` and of every process created under them since attach."""
        family = set(roots)
        while new := {p.pid for p in self.processes if p.parent in family} - family:
            family |= new
        return family

    @property
    def in_system_calls(self) -> tuple[int, int] | None:
        """Upper bounds of the copies and zero-fills that the kernel made inside system calls of all
        traced processes, which the tracepoint plan does not see; None: the plan sees them.
        """
        if self.plan != "tracepoint":
            return None
        copied, zero_filled = (dict(self.completeness.detail).get(c, 0) for c in OUTSIDE_FAULTS)
        return copied, zero_filled

    def only(self, keep: Iterable[Process], *, ended: bool = False) -> Snapshot:
        """The same moment, with only these processes, their details and their generations.

        `ended`: with the rows that stand for ended processes, too; these may have no process.
        """
        processes = tuple(keep)
        pids = {process.pid for process in processes} | ({ENDED_PID} if ended else set())
        return replace(
            self,
            processes=processes,
            details=tuple(row for row in self.details if row.pid in pids),
            samples=tuple(row for row in self.samples if row.pid in pids),
            generations=tuple(g for g in self.generations if {g.parent, g.child} & pids),
        )
