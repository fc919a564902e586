"""Which processes and kinds a command is about: its filter options -> what the tracer applies,
and what is left out of a snapshot or of the events afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from cowtrace import proc
from cowtrace.model import Event, FaultKind, Process, Snapshot
from cowtrace.tracer.filter import Filter


@dataclass(frozen=True, slots=True)
class Choice:
    """What the options of `cli.options.filter_options` ask for; nothing: everything."""

    names: tuple[tuple[int, str], ...] = ()  # pid, and its name when the command began
    follow: bool = False  # their descendants too
    cgroup: Path | None = None
    comm: str | None = None  # a glob
    kinds: frozenset[FaultKind] = frozenset()  # empty: all

    @property
    def pids(self) -> tuple[int, ...]:
        """Those that -p names."""
        return tuple(pid for pid, _ in self.names)

    def in_kernel(self) -> Filter:
        """The part that the probes apply: what they leave out costs least."""
        return Filter(pids=self.pids, follow=self.follow, cgroup=self.cgroup)

    def of(self, now: Snapshot) -> Snapshot:
        """The chosen processes, those of -p without any fault too, and the chosen kinds."""
        kept = now.only([*self._chosen(now.processes), *self._quiet(now)])
        if not self.kinds:
            return kept
        return replace(
            kept,
            processes=tuple(map(self._with_kinds, kept.processes)),
            details=tuple(row for row in kept.details if row.kind in self.kinds),
            samples=tuple(row for row in kept.samples if row.kind in self.kinds),
        )

    def called(self, now: Snapshot) -> set[int]:
        """Pids of the processes whose name is the wanted one."""
        return {process.pid for process in now.processes if self._is_called(process.comm)}

    def takes(self, event: Event) -> bool:
        """Whether one fault, which the kernel's part let pass, is among the chosen."""
        return (not self.kinds or event.kind in self.kinds) and self._is_called(event.comm)

    def _chosen(self, processes: Iterable[Process]) -> list[Process]:
        pids = frozenset() if self.follow else frozenset(self.pids)
        return [p for p in processes if (not pids or p.pid in pids) and self._is_called(p.comm)]

    def _quiet(self, now: Snapshot) -> list[Process]:
        known = {process.pid for process in now.processes}
        return [
            Process(pid, name, None, not proc.exists(pid), None, (), now.unseen)
            for pid, name in sorted(self.names)
            if pid not in known
        ]

    def _is_called(self, comm: str) -> bool:
        return self.comm is None or fnmatchcase(comm, self.comm)

    def _with_kinds(self, process: Process) -> Process:
        """What was not asked for is missing, not 0. What could be of any kind stays."""
        kept = self.kinds | {FaultKind.UNCLASSIFIED}
        rows = tuple(row for row in process.rows if row.kind in kept)
        return replace(process, rows=rows, unseen=process.unseen | frozenset(FaultKind) - kept)
