"""Break the classification in bpf/: `cowtrace verify` must notice each change.

In the VM the plans that see the end of a fault are broken, on this machine's kernel the tracepoint
plan: the one that it allows.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mutations import (
    OF_FAULT_ENDS,
    OF_OLD_TLB_ENTRIES,
    OF_PATHS,
    OF_PTE_CHANGES,
    OF_TRACEPOINTS,
    Mutation,
    check_under,
)
from workload_checks import PRIME_PAGES

from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.plan import PlanName
from cowtrace.verify.check import Check, Verdict
from cowtrace.workloads import run_forked

ATTEMPTS = 5  # another process may flush the TLB before
ALL = "6.12"
# Compiling each takes seconds under emulation. What is broken is the same source on every kernel:
# one kernel gets all of them, the others what depends on the kernel's own structs.
OF_ENDS = (
    (*OF_FAULT_ENDS, *OF_PATHS, *OF_PTE_CHANGES)
    if os.environ.get("COWTRACE_KERNEL") == ALL
    else (*OF_FAULT_ENDS[:1], *OF_PATHS[:1])
)


def faults_at_old_tlb_entries() -> bool:
    """Whether a write faults where the page table allows it, but the TLB does not: AMD's do not.

    A huge entry that was made writable is not flushed: then the write faults once more.
    """
    runs = (run_forked(OF_OLD_TLB_ENTRIES.caught_by, PRIME_PAGES) for _ in range(ATTEMPTS))
    return any((run.processes[0].page_faults or 0) > 1 for run in runs)


def plan_of(mutation: Mutation) -> PlanName:
    """Every kernel of the VM allows kprobe, and fentry shares the headers that are broken."""
    return "tracepoint" if mutation in OF_TRACEPOINTS else "kprobe"


def check_or_skip(
    plan: PlanName, names: tuple[str, ...], broken: Mutation | None, scratch: Path
) -> list[Check]:
    """Check these workloads, with that mutation of the source or none."""
    if os.geteuid() != 0:
        pytest.skip("tracing needs root")
    try:
        return check_under(plan, names, mutation=broken, scratch=scratch)
    except CowtraceError as error:
        if error.exit_code != EXIT_NO_PLAN or broken:  # what is broken must still load
            raise
        pytest.skip(f"this machine: {error}")


@pytest.mark.parametrize(
    "mutations",
    [
        pytest.param(OF_ENDS, marks=pytest.mark.vm, id="fault-ends"),
        pytest.param(OF_TRACEPOINTS, marks=pytest.mark.host, id="tracepoints"),
    ],
)
def test_the_unchanged_source_passes(mutations: tuple[Mutation, ...], tmp_path: Path) -> None:
    """The same checks hold without a mutation, so that a failure comes from the mutation."""
    names = tuple(dict.fromkeys(mutation.caught_by for mutation in mutations))
    made = check_or_skip(plan_of(mutations[0]), names, None, tmp_path)
    assert len(made) == len(names)
    assert [(check.name, check.why) for check in made if check.verdict is not Verdict.HOLDS] == []


@pytest.mark.parametrize(
    "mutation",
    [
        *(pytest.param(each, marks=pytest.mark.vm, id=each.name) for each in OF_ENDS),
        *(pytest.param(each, marks=pytest.mark.host, id=each.name) for each in OF_TRACEPOINTS),
    ],
)
def test_verify_notices(mutation: Mutation, tmp_path: Path) -> None:
    if mutation is OF_OLD_TLB_ENTRIES and not faults_at_old_tlb_entries():
        pytest.skip("this processor reads the page table again before it faults")
    # Where the process is interrupted just before its write, there is no old entry.
    for attempt in range(ATTEMPTS if mutation is OF_OLD_TLB_ENTRIES else 1):
        scratch = tmp_path / str(attempt)
        scratch.mkdir()
        (check,) = check_or_skip(plan_of(mutation), (mutation.caught_by,), mutation, scratch)
        if check.verdict is Verdict.FAILS:
            break
    assert check.verdict is Verdict.FAILS, check
    assert check.why
