"""Compute how fast processes copy, from two snapshots."""

from __future__ import annotations

from cowtrace.model import Snapshot

Rates = dict[tuple[int, int | None], float]  # by Process.identity


def per_second(now: Snapshot, before: Snapshot | None) -> Rates:
    """Bytes copied a second between two snapshots (since attach without `before`).

    A process that did not change in between is not in it.
    """
    start_ns = before.at_ns if before else now.attached_ns
    seconds = (now.at_ns - start_ns) / 1e9
    if seconds <= 0:
        return {}
    changed = now.changed_since(before)
    pids = {process.pid for process in changed}
    was = before.processes if before and pids else ()
    earlier = {p.identity: p.copied_bytes for p in was if p.pid in pids}
    return {
        p.identity: max(0, p.copied_bytes - earlier.get(p.identity, 0)) / seconds for p in changed
    }
