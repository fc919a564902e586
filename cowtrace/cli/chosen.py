"""Find the living processes that options choose, again and again."""

from __future__ import annotations

from collections.abc import Iterable

from cowtrace import proc
from cowtrace.cli import cgroups
from cowtrace.cli.choice import Choice
from cowtrace.cli.options import usage_error
from cowtrace.errors import CowtraceError

_MOST = 128  # processes


class Chosen:
    """The processes of a Choice that have memory. `follow`: these and their descendants.

    Raises CowtraceError: all processes are chosen.
    """

    def __init__(self, choice: Choice, follow: Iterable[int] = ()) -> None:
        self._roots = {*choice.pids, *follow}
        if choice.is_everything and not choice.cgroup and not self._roots:
            raise usage_error(
                "no process is chosen", "choose some: -p PID --follow, --comm, --cgroup"
            )
        self._choice = choice
        self._follow = choice.follow or bool(follow)

    def now(self) -> dict[int, str]:
        """Their names, by PID. Raises CowtraceError: there are too many."""
        if self._follow:
            self._roots |= proc.descendants(self._roots)  # also of those that have ended since
        chosen = self._roots or proc.pids()
        if self._choice.cgroup:
            chosen = chosen & cgroups.processes(self._choice.cgroup)
        names = {pid: proc.name(pid) for pid in sorted(chosen) if proc.has_memory(pid)}
        found = {
            pid: name
            for pid, name in names.items()
            if name is not None and self._choice.is_called(name)
        }
        if len(found) > _MOST:
            raise CowtraceError(
                f"{len(found):,} processes are chosen, {_MOST} at most can be compared",
                hint="choose fewer: -p PID, --comm GLOB",
            )
        return found

    def some(self) -> dict[int, str]:
        """Likewise. Raises CowtraceError: there is none."""
        found = self.now()
        if not found:
            raise CowtraceError(
                "none of the chosen processes exists and has memory",
                hint="list the processes: ps -e -o pid,rss,comm",
            )
        return found
