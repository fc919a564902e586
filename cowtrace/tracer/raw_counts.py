"""Plain items of the maps, and what their losses mean. No kernel, no BCC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cowtrace.model import Completeness
from cowtrace.tracer.abi import LOSSES, LOST

# Counted by the kernel (cowtrace.kernel.skipped): programs, and entries of pairs, that did not run.
PASSED_OVER, ENTRY_PASSED_OVER = "program busy", "entry passed over"
Key = tuple[int, int, int, int, int]  # struct fault_key: tgid, actor, kind, source, origin
# struct process: parent, exited, start_ns, born_in, last_fork, comm
RawProcess = tuple[int, int, int, int, int, bytes]
# struct detail_key without half: mapping, user_stack, kernel_stack, tgid, generation, kind,
# source, origin, latency
DetailKey = tuple[int, int, int, int, int, int, int, int, int]
RawMapping = tuple[int, int, int, int, int, bytes]  # end, flags, inode, device, type, name
# struct generation: parent, child, at_ns, ended_ns, shareable_pages, previous, executed
RawGeneration = tuple[int, int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class RawDetails:
    """What one round counted in detail, and all that its keys refer to but the stacks."""

    sums: Mapping[DetailKey, tuple[int, int, int]]  # faults (may be negative), bytes, ns
    mappings: Mapping[tuple[int, int], RawMapping]  # by tgid, start
    generations: Mapping[int, RawGeneration]


@dataclass(frozen=True, slots=True)
class RawCounts:
    """What one round counted, and the processes known at its end; the fields of bpf/cow.h."""

    sums: Mapping[Key, tuple[int, int]]  # faults (may be negative modulo 2**64), bytes
    page_faults: Mapping[int, tuple[int, int, int]] | None  # None: not counted
    processes: Mapping[int, RawProcess]
    details: RawDetails | None = None  # None: not asked for


def completeness(losses: Iterable[int], baseline: Iterable[int]) -> Completeness:
    """What was lost since `baseline`, read when the last probe was attached.

    Both are `enum loss`, then the two counts of what was passed over.
    """
    names = (*LOSSES, PASSED_OVER, ENTRY_PASSED_OVER)
    since = {name: now - then for name, now, then in zip(names, losses, baseline, strict=True)}
    # Neither entry nor return of these ran. The others' return did: "entry missed".
    since[PASSED_OVER] += max(0, since.pop(ENTRY_PASSED_OVER) - since["entry missed"])
    return Completeness(
        lost=sum(since[name] for name in (*LOST, PASSED_OVER)),
        checked=since["checked"] - since["check failed"],
        detail=tuple((n, c) for n, c in since.items() if c and n != "checked"),
    )


def signed(value: int) -> int:
    """A sum modulo 2**64 that may be below 0."""
    return value - (1 << 64) if value >> 63 else value
