"""Check the trace of a workload against its expectations and the kernel."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cowtrace import tracer
from cowtrace.kernel.plan import PLAN_NAMES, PlanName
from cowtrace.model import FaultKind, Snapshot
from cowtrace.workloads import paths
from cowtrace.workloads.comparison import comparison
from cowtrace.workloads.outcome import Outcome

IN_VM = os.environ.get("COWTRACE_VM") == "1"  # set by `cowtrace vm run`
PRIME_PAGES = 23
MANY_PAGES = 509
# The VM has 2 GiB, and this takes two pages of 1 GiB each.
CANNOT = {"hugetlb-gigantic"}
# Debian builds no kernel with these options.
CANNOT |= {"huge-zero-persistent", "no-page-mapcount"}
if os.uname().machine == "aarch64":
    CANNOT |= {"soft-dirty", "soft-dirty-after-fork"}  # no CONFIG_MEM_SOFT_DIRTY
_RELEASE = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
SINCE = {
    "populate-after-fork": (5, 14),
    "memfd-secret-writes": (6, 5),  # or since 5.14, if enabled at boot
    "userfaultfd-async": (6, 7),
    "userfaultfd-async-after-fork": (6, 7),
    "pagemap-scan": (6, 7),
    "map-droppable": (6, 11),
    "droppable-reclaimed": (6, 11),
    "guard-region": (6, 13),
    "ksm-process": (6, 4),
    "ksm-process-unmerge": (6, 4),
    "thp-except-advised": (6, 18),
}
SINCE |= dict.fromkeys((name for name in paths.NAMES if name.startswith("mthp-")), (6, 8))
SINCE["mthp-khugepaged"] = (7, 2)
CANNOT |= {name for name, release in SINCE.items() if release > _RELEASE}
if "user_shstk" not in Path("/proc/cpuinfo").read_text().split():
    CANNOT.add("shadow-stack-writes")
if "PREEMPT_RT" in os.uname().version:  # CONFIG_TRANSPARENT_HUGEPAGE depends on !PREEMPT_RT
    CANNOT |= {"huge-zero-page", "collapse-after-fork", "khugepaged-after-fork"}
    CANNOT |= {"collapse-split-huge-page"}
    CANNOT |= {name for name in paths.NAMES if name.startswith(("thp-", "mthp-"))}


def plans() -> tuple[PlanName, ...]:
    """Every plan that the VM's kernels allow: arm64 has no tracepoints of page faults."""
    x86 = os.uname().machine == "x86_64"
    return tuple(plan for plan in PLAN_NAMES if x86 or plan != "tracepoint")


def attached(stack: ExitStack, **options: Any) -> dict[str, tracer.Tracer]:
    """Every plan; and again at the ends of faults, where it counts at changes of entries."""
    tracers: dict[str, tracer.Tracer] = {}
    for plan in plans():
        tracers[plan] = live = stack.enter_context(tracer.attach(plan, **options))
        if plan == "kprobe" or "PTE_CHANGES" in live.probe_plan.defines:
            # The kprobe plan compares copies with calls of wp_page_copy(), if it is not inlined.
            ends = tracer.attach(plan, outcomes=True, cross_check=plan == "kprobe", **options)
            tracers[f"{plan}, ends"] = stack.enter_context(ends)
    return tracers


def problems(outcome: Outcome, snapshot: Snapshot, lost_before: int = 0) -> list[str]:
    """Everything that is wrong, a line each; must be empty."""
    compared = comparison(outcome, snapshot)
    found = [str(row) for row in compared.rows if not row.ok]
    found += [
        f"pid {process.pid}: {process.faults} faults, not the sum of its kinds"
        for process in snapshot.processes
        if process.faults != sum(process.count(kind) or 0 for kind in FaultKind)
    ]
    found += [f"pagemap hides frames of pid {p.pid}" for p in outcome.processes if not p.pagemap]
    lost = compared.lost - lost_before
    if compared.unclassified or compared.failed or lost or not outcome.data_right:
        found.append(f"incomplete or wrong data: {snapshot.completeness.detail}, {compared}")
    return found


def path_problems(outcome: Outcome, snapshot: Snapshot, lost_before: int) -> list[str]:
    """The same, for a workload that some oracles cannot count: those that can must agree."""
    compared = comparison(outcome, snapshot)
    found = [str(row) for row in compared.rows if not row.ok]
    found += [str(detail) for detail in compared.details if not detail.ok]
    found += [str(evidence) for evidence in outcome.evidence if evidence.ok is False]
    if compared.unclassified or compared.failed or compared.lost > lost_before:
        found.append(f"incomplete: {snapshot.completeness.detail}, {compared}")
    if not outcome.data_right:
        found.append("wrong data was read back")
    return found


def unaccounted(outcome: Outcome, snapshot: Snapshot, lost_before: int = 0) -> list[str]:
    """For a plan that may lose faults: counts that differ by more than it reports as lost.

    A program that was skipped leaves a fault uncounted, or counted as another kind: two
    counts are then wrong by one.
    """
    compared = comparison(outcome, snapshot)
    wrong = [row for row in compared.rows if not row.ok and row.traced is not None]
    faults = sum(abs((row.expected or 0) - (row.traced or 0)) for row in wrong)
    lost = compared.lost - lost_before
    return [] if faults <= 2 * lost else [f"only {lost} lost", *map(str, wrong)]
