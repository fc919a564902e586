"""Find the living processes that options choose, again and again."""

from __future__ import annotations

from collections.abc import Iterable

from cowtrace import proc
from cowtrace.cli import cgroups
from cowtrace.cli.choice import Choice
from cowtrace.cli.options import notice, usage_error
from cowtrace.errors import CowtraceError

_MOST = 128  # processes


class Chosen:
    """The processes of a Choice that have memory. `follow`: these and their descendants.

    Raises CowtraceError: all processes are chosen.
    """

    def __init__(self, choice: Choice, follow: Iterable[int] = ()) -> None:
        self._choice = choice
        self._follow = choice.follow or bool(follow)
        self._roots: dict[int, int | None] = {}  # PIDs, and when their processes started
        self._add({*choice.pids, *follow})
        self._by_pid = bool(self._roots)
        if choice.is_everything and not choice.cgroup and not self._by_pid:
            raise usage_error(
                "no process is chosen", "choose some: -p PID --follow, --comm, --cgroup"
            )
        self._known: set[int] = set()
        self._left_out = False

    def now(self) -> dict[int, str]:
        """Their names, by PID. Of too many, those that were there before, and the lowest PIDs."""
        found = self._all()
        if len(found) > _MOST:
            if not self._left_out:
                notice(f"more than {_MOST} processes are chosen: the others are not read")
            self._left_out = True
            first = sorted(found, key=lambda pid: (pid not in self._known, pid))[:_MOST]
            found = {pid: found[pid] for pid in sorted(first)}
        self._known = {*found}
        return found

    def some(self) -> dict[int, str]:
        """Likewise. Raises CowtraceError: there is none, or there are too many."""
        found = self._all()
        if len(found) > _MOST:
            raise CowtraceError(
                f"{len(found):,} processes are chosen, {_MOST} at most can be read",
                hint="choose fewer: -p PID, --comm GLOB",
            )
        if not found:
            raise CowtraceError(
                "none of the chosen processes exists and has memory",
                hint="list the processes: ps -e -o pid,rss,comm",
            )
        self._known = {*found}
        return found

    def _all(self) -> dict[int, str]:
        # Another process can have the PID of one that has ended.
        self._roots = {
            pid: start for pid, start in self._roots.items() if proc.started(pid) == start
        }
        if self._follow:
            self._add(proc.descendants(self._roots))  # so that theirs are found when they end
        chosen = {*self._roots} if self._by_pid else proc.pids()
        if self._choice.cgroup:
            chosen = chosen & cgroups.processes(self._choice.cgroup)
        names = {pid: proc.name(pid) for pid in sorted(chosen) if proc.has_memory(pid)}
        return {
            pid: name
            for pid, name in names.items()
            if name is not None and self._choice.is_called(name)
        }

    def _add(self, pids: Iterable[int]) -> None:
        for pid in pids:
            self._roots.setdefault(pid, proc.started(pid))
