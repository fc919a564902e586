"""Group workloads by claim or path, and find groups by name, with a suggestion for a wrong one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cowtrace.errors import EXIT_USAGE, CowtraceError, did_you_mean
from cowtrace.workloads.workload import Workload

# The claims about fork, as short as a line of the matrix allows.
CLAIMS = {
    "C1": "fork copies no data",
    "C2": "a write copies one whole page",
    "C3": "page sizes: the architecture's, and more",
    "C4": "either side's write faults",
    "C5": "a new page, writable; no second fault",
    "C6": "the last writer's page is only re-marked",
    "C7": "MAP_SHARED stays shared",
    "C8": "a private file's page is copied",
}


@dataclass(frozen=True, slots=True)
class Group:
    """One claim, or one path by which Linux copies or does not copy."""

    name: str
    workloads: tuple[Workload, ...]


def title(name: str) -> str:
    """`C1 fork copies no data`; a path's own name."""
    return f"{name} {CLAIMS[name]}" if name in CLAIMS else name


def groups(workloads: Mapping[str, Workload]) -> tuple[Group, ...]:
    """C1 to C8, then the paths in the order of their workloads."""
    members: dict[str, list[Workload]] = {name: [] for name in CLAIMS}
    for workload in workloads.values():
        if workload.group:
            members.setdefault(workload.group, []).append(workload)
    return tuple(Group(name, tuple(those)) for name, those in members.items() if those)


def choose(known: Iterable[Group], names: Iterable[str]) -> tuple[Group, ...]:
    """The groups of these names, in the order of `known`; all of them without a name.

    Letter case, and a blank or underscore for a dash, do not matter. Raises CowtraceError with
    the nearest name for an unknown one.
    """
    by_key = {_key(group.name): group for group in known}
    wanted = {_key(name): name for name in names}
    for key, name in wanted.items():
        if key not in by_key:
            hint = did_you_mean(key, by_key, lambda near: by_key[near].name.replace(" ", "-"))
            raise CowtraceError(
                f"no claim or path is named {name!r}",
                hint=f"{hint}all of them: cowtrace verify --list",
                exit_code=EXIT_USAGE,
            )
    return tuple(group for key, group in by_key.items() if not wanted or key in wanted)


def _key(name: str) -> str:
    return name.casefold().replace(" ", "-").replace("_", "-")
