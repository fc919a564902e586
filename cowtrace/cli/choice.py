"""Turn filter options into the tracer's filter, and apply the rest to snapshots and events."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from cowtrace import proc
from cowtrace.cli import cgroups
from cowtrace.cli.options import Command, usage_error
from cowtrace.model import Event, FaultKind, Process, Snapshot
from cowtrace.tracer.filter import Filter, is_called

KINDS = tuple(kind.label for kind in FaultKind)
_KIND = click.option(
    "--kind", "kinds", type=click.Choice(KINDS), multiple=True, metavar="KIND",
    help=f"Trace only faults of this kind; may be repeated: {', '.join(KINDS)}.",
)  # fmt: skip


def process_options(command: Command, verb: str = "trace") -> Command:
    """-p, --follow, --comm and --cgroup; the command gets them as one `choice`.

    `verb`: what the command does with the chosen processes.
    """
    only = f"{verb.capitalize()} only"
    options = (
        click.option("-p", "--pid", "pids", type=click.IntRange(min=1), multiple=True,
                     metavar="PID", help=f"{only} this process; may be repeated."),
        click.option("--follow", is_flag=True,
                     help=f"With -p: also {verb} its present and future descendants."),
        click.option("--comm", metavar="GLOB",
                     help=f"{only} processes whose name matches GLOB: 'redis*'."),
        click.option("--cgroup", metavar="PATH",
                     help=f"{only} tasks in this cgroup (v2), as of a container, and below it."),
    )  # fmt: skip

    @functools.wraps(command)
    def chosen(
        *args: Any,
        pids: tuple[int, ...],
        follow: bool,
        comm: str | None,
        cgroup: str | None,
        kinds: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> Any:
        if follow and not pids:
            raise usage_error("--follow needs -p", f"name the ancestor whose descendants to {verb}")
        choice = Choice(
            names=tuple((pid, proc.comm(pid)) for pid in dict.fromkeys(pids)),
            follow=follow,
            cgroup=cgroups.folder(cgroup) if cgroup else None,
            comm=comm,
            kinds=frozenset(kind for kind in FaultKind if kind.label in kinds),
        )
        return command(*args, choice=choice, **kwargs)

    for option in reversed(options):
        chosen = option(chosen)
    return chosen  # type: ignore[return-value]


def filter_options(command: Command) -> Command:
    """The options of `process_options`, and --kind."""
    return process_options(_KIND(command))


@dataclass(frozen=True, slots=True)
class Choice:
    """The processes and kinds that the options of this module choose; by default all."""

    names: tuple[tuple[int, str], ...] = ()  # pid, and its name when the command began
    follow: bool = False  # their descendants too
    cgroup: Path | None = None
    comm: str | None = None  # a glob
    kinds: frozenset[FaultKind] = frozenset()  # empty: all

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that -p names."""
        return tuple(pid for pid, _ in self.names)

    @property
    def alone(self) -> tuple[int, ...]:
        """The processes after whose end there is nothing to trace; none where others may follow."""
        return () if self.follow else self.pids

    @property
    def is_everything(self) -> bool:
        """No process is chosen by its PID or name: what the kernel's filter counts is all shown."""
        return not self.names and self.comm is None

    def in_tracer(self) -> Filter:
        """The part that the tracer applies, where skipping a fault is cheapest."""
        return Filter(pids=self.pids, follow=self.follow, cgroup=self.cgroup, comm=self.comm)

    def of(self, now: Snapshot) -> Snapshot:
        """Keep the chosen processes and kinds; processes of -p even without a fault."""
        known = {process.pid for process in now.processes}
        pids = known if self.follow or not self.names else known & {*self.pids}
        chosen = [p for p in now.processes if p.pid in pids and self.is_called(p.comm)]
        quiet = [
            Process(pid, name, None, not proc.exists(pid), None, (), now.unseen)
            for pid, name in sorted(self.names)
            if pid not in known
        ]
        # The tracer counts processes of other names, too.
        kept = now.only([*chosen, *quiet], ended=self.comm is None)
        if not self.kinds:
            return kept
        return replace(
            kept,
            processes=tuple(map(self._with_kinds, kept.processes)),
            details=tuple(row for row in kept.details if row.kind in self.kinds),
            samples=tuple(row for row in kept.samples if row.kind in self.kinds),
        )

    def with_descendants(self, now: Snapshot) -> Snapshot:
        """Like `of`, but with the descendants of -p, where the kernel traces them too."""
        return replace(self, names=(), follow=False).of(families(now, self.pids))

    def called(self, now: Snapshot) -> set[int]:
        """Pids of the processes whose name matches --comm."""
        return {process.pid for process in now.processes if self.is_called(process.comm)}

    def takes(self, event: Event) -> bool:
        """True if a fault that passed the kernel's filter has a chosen kind and name, too."""
        return (not self.kinds or event.kind in self.kinds) and self.is_called(event.comm)

    def is_called(self, comm: str) -> bool:
        """Whether --comm chooses a process of that name."""
        return is_called(comm, self.comm)

    def _with_kinds(self, process: Process) -> Process:
        """Kinds that are not chosen are missing, not 0. Unclassified faults stay."""
        kept = self.kinds | {FaultKind.UNCLASSIFIED}
        rows = tuple(row for row in process.rows if row.kind in kept)
        return replace(process, rows=rows, unseen=process.unseen | frozenset(FaultKind) - kept)


def command_filter(cgroup: Path | None = None) -> Filter:
    """Count a command that is not started yet: it will be a child of this process."""
    return Filter(pids=(os.getpid(),), follow=True, cgroup=cgroup)


def command_alone(now: Snapshot, pid: int) -> Snapshot:
    """Leave out this process and its helpers: its children, except the command.

    A process whose parent is unknown stays: the kernel's filter followed it from the command.
    """
    own = os.getpid()
    helpers = (p.pid for p in now.processes if p.parent == own and p.pid != pid)
    left_out = {own} | now.families(helpers)
    return now.only((each for each in now.processes if each.pid not in left_out), ended=True)


def families(now: Snapshot, pids: Collection[int]) -> Snapshot:
    """Keep these processes and their descendants, where the kernel's filter has no others.

    A descendant that was forked before attach is known only by its faults. Without pids, keep
    everything.
    """
    if not pids:
        return now
    roots = {*pids, *(p.pid for p in now.processes if p.parent is None and p.faults)}
    members = now.families(roots)
    return now.only((each for each in now.processes if each.pid in members), ended=True)
