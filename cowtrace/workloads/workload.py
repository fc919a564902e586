"""Define a workload: its name, the counts expected of it, and the function that runs it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from cowtrace import proc
from cowtrace.errors import EXIT_FAILURE, EXIT_USAGE, CowtraceError, did_you_mean
from cowtrace.frames.words import zero_frame
from cowtrace.model import FaultKind, Snapshot
from cowtrace.workloads import evidence
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.outcome import Expected, Outcome
from cowtrace.workloads.region import (
    REGION_END,
    REGION_START,
    Backing,
    map_region,
    pin_to_one_cpu,
    touch_scratch,
)
from cowtrace.workloads.writer import Writer

Act = Callable[[Writer], None]
Expectation = Callable[[int], tuple[Expected, ...]]
Needs = Callable[[int], AbstractContextManager[object]]  # pages -> settings, restored at the end


# For `unseen_by`: faults of mlock, madvise, pins.
KERNEL_FAULT = {"tracepoint": "no exception is raised when the kernel makes the fault"}


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload whose copy-on-write faults in the region are known before it runs."""

    name: str
    summary: str
    expected: Expectation  # pages -> one Expected a role; children of one role are alike
    act: Act = field(repr=False)
    backing: Backing = Backing.ANONYMOUS
    frames: int = 2  # page frames that it takes for each page of the region, at most
    races: bool = False  # threads fault on one page at once: see compare.Row.upper_bound
    group: str = ""  # the claim of fork that it checks, C1 to C8, or the name of its path
    claim: str = ""  # one plain sentence that it checks
    needs: Needs = field(default=nullcontext, repr=False)
    least: int = 1  # pages that it takes at least, whatever --pages says
    most: int | None = None  # and at most
    unseen_by: Mapping[str, str] = field(default_factory=dict)  # plan -> why it cannot see it
    unseen_without_table: str = ""  # why the tracepoint plan before 6.1 cannot see it; "": it can
    varies: bool = False  # kernel versions differ: what this one does is a finding
    fork_copies: bool = False  # to be traced with tracer.attach(fork_copies=True)

    def unseen(self, snapshot: Snapshot) -> str | None:
        """Why that trace cannot see it; None if it can."""
        if self.unseen_without_table and FaultKind.SHARED in snapshot.unseen:  # it reads none
            return self.unseen_without_table
        return self.unseen_by.get(snapshot.plan)

    def run(self, pages: int) -> Outcome:
        """Run it in this process, which should be a fresh one: see `cowtrace.workloads.run`.

        Pinned to one CPU, since each CPU keeps batches of new pages: see `touch_scratch`.
        Raises Unsupported where the kernel or the machine lacks what it needs.
        """
        pages = self.clamp(pages)
        gc.disable()  # a collection during a write would make faults of its own
        pin_to_one_cpu()
        with self.needs(pages):  # before the region is mapped: settings start a process
            region = map_region(pages, self.backing)
            touch_scratch()
            expected = {one.role: one for one in self.expected(pages)}
            parent = Writer("parent", region, zero_frame(), expected)
            self.act(parent)
            processes = parent.observed()
        seen = (*evidence.evidence(processes, races=self.races), *parent.evidence)
        findings = tuple(parent.findings)
        return Outcome(self.name, pages, self.backing.page_bytes, processes, seen, findings)

    def clamp(self, pages: int) -> int:
        """The pages that it takes when `pages` were requested."""
        return max(self.least, pages if self.most is None else min(pages, self.most))


WORKLOADS: dict[str, Workload] = {}


def workload(expected: Expectation, **options: Any) -> Callable[[Act], Act]:
    """Add the decorated function to WORKLOADS: its name with dashes, its docstring the summary.

    The options are the other fields of `Workload`.
    """

    def add(act: Act) -> Act:
        name = act.__name__.replace("_", "-")
        WORKLOADS[name] = Workload(name, act.__doc__ or "", expected, act, **options)
        return act

    return add


def find(name: str) -> Workload:
    """The workload of that name; raises CowtraceError that suggests the nearest."""
    if name in WORKLOADS:
        return WORKLOADS[name]
    raise CowtraceError(
        f"no workload is named {name!r}",
        hint=f"{did_you_mean(name, WORKLOADS)}list all workloads: cowtrace workload --list",
        exit_code=EXIT_USAGE,
    )


def check_pages(workload: Workload, pages: int) -> None:
    """Raise CowtraceError unless `pages` is at least 1 and memory has room for the workload."""
    if pages < 1:
        raise CowtraceError(
            f"--pages is {pages}, but a workload needs at least 1 page",
            hint="the default is 509",
            exit_code=EXIT_USAGE,
        )
    page_bytes = workload.backing.page_bytes
    room = min(available_bytes() // workload.frames, REGION_END - REGION_START) // page_bytes
    pages = workload.clamp(pages)
    if room < min(pages, workload.least) or room < 1:
        raise Unsupported(f"memory has no room for {workload.name}")
    if pages > room:
        raise CowtraceError(
            f"{pages} pages are more than memory holds for {workload.name}",
            hint=f"it takes {workload.frames} frames a page here: at most --pages {room}",
            exit_code=EXIT_FAILURE,
        )


def available_bytes() -> int:
    """Nine tenths of MemAvailable: certain to be allocated without swapping."""
    available = proc.available_bytes()
    if available is None:
        raise CowtraceError("/proc/meminfo has no MemAvailable", hint="is /proc mounted?")
    return available * 9 // 10
