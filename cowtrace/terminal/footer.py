"""Render the footer of a table: losses, what the plan cannot see, and PIDs in containers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from rich.text import Text

from cowtrace.model import FaultKind, Place, Snapshot
from cowtrace.terminal.columns import EXITED
from cowtrace.text import UNKNOWN_CGROUP, fit, fit_end, printable

_MOST = 5  # containers
_OUTCOMES = {FaultKind.UNCHANGED, FaultKind.FAILED}  # only tables of -v have columns for these


def trust(snapshot: Snapshot, shown: str, *, exited: bool = False, outcomes: bool = False) -> Text:
    """State the plan, the kernel, the time, `shown`, and what was lost or cannot be seen.

    outcomes: the table shows faults that failed or changed nothing, too.
    """
    seconds = (snapshot.at_ns - snapshot.attached_ns) / 1e9
    text = Text(style="dim")
    text.append(
        f"plan {snapshot.plan}, kernel {printable(snapshot.kernel)}, {seconds:,.1f} s: {shown}\n"
    )
    done = snapshot.completeness
    text.append(f"unclassified {snapshot.unclassified:,}", _alarm(snapshot.unclassified))
    text.append(", ")
    text.append(f"lost {done.lost:,}", _alarm(done.lost))
    if done.lost_details:
        text.append(", ")
        text.append(f"lost in details {done.lost_details:,}", _alarm(done.lost_details))
    if done.causes:
        text.append(" (" + ", ".join(f"{cause} {lost:,}" for cause, lost in done.causes) + ")")
    if (outside := snapshot.in_system_calls) and any(outside):
        copied, zero_filled = outside
        text.append(
            f"; not seen, in system calls: at most {copied:,} copied, {zero_filled:,} zero-filled"
        )
    if missing := snapshot.unseen - (set() if outcomes else _OUTCOMES):
        unseen = ", ".join(kind.label for kind in sorted(missing))
        text.append(f"; - not seen by this plan: {unseen}")
    if exited:
        text.append(f"; {EXITED} exited")
    return text


def containers(pids: Iterable[int], places: Mapping[int, Place], width: int) -> list[Text]:
    """A line for each of the first containers: `in /docker/4f…: PID 4711=1 4712=7`.

    A pair is a host PID and its container PID; processes where these are equal have none.
    """
    inside: dict[str | None, list[str]] = defaultdict(list)
    for pid in dict.fromkeys(pids):
        place = places.get(pid)
        if place and place.is_contained(pid):
            inside[place.cgroup].append(f"{pid}={place.nspid}")
    lines = []
    for cgroup, pairs in list(inside.items())[:_MOST]:
        shown = UNKNOWN_CGROUP if cgroup is None else fit_end(printable(cgroup), width // 2)
        lines.append(Text(fit(f"in {shown}: PID {' '.join(pairs)}", width), "dim"))
    if len(inside) > _MOST:
        lines.append(Text(f"and {len(inside) - _MOST:,} containers more", "dim"))
    return lines


def _alarm(number: int) -> str:
    return "not dim bold red" if number else ""
