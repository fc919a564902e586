"""Processes in PID namespaces of their own -> lines that say where, and their pids there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from rich.text import Text

from cowtrace.model import Place
from cowtrace.views.text import fit, fit_end, printable

_MOST = 5  # containers
UNKNOWN = "a cgroup that is not known"


def containers(pids: Iterable[int], places: Mapping[int, Place], width: int) -> list[Text]:
    """A line for each of the first containers: its cgroup's end, and PID=pid inside.

    Nothing where all of the processes have the pid here that they have where they run.
    """
    inside: dict[str | None, list[str]] = defaultdict(list)
    for pid in dict.fromkeys(pids):
        place = places.get(pid)
        if place and place.is_contained(pid):
            inside[place.cgroup].append(f"{pid}={place.nspid}")
    lines = [_line(cgroup, pairs, width) for cgroup, pairs in list(inside.items())[:_MOST]]
    if len(inside) > _MOST:
        lines.append(Text(f"and {len(inside) - _MOST:,} containers more", "dim"))
    return lines


def _line(cgroup: str | None, pairs: list[str], width: int) -> Text:
    """`in /docker/4f…: PID 4711=1 4712=7`; as many of the processes as there is room for."""
    where = UNKNOWN if cgroup is None else fit_end(printable(cgroup), width // 2)
    return Text(fit(f"in {where}: PID {' '.join(pairs)}", width), "dim")
