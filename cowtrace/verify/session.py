"""Run the workloads of some groups under one tracer, and yield a Check for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from cowtrace.errors import CowtraceError
from cowtrace.model import Snapshot
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.groups import Group
from cowtrace.verify.judge import judge, unfinished
from cowtrace.workloads import run_forked
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.outcome import Outcome
from cowtrace.workloads.workload import Workload, check_pages

PAGES = 127  # a prime: a count that is doubled or halved is noticed


def checks(
    groups: Iterable[Group],
    snapshot: Callable[[], Snapshot],
    *,
    pages: int = PAGES,
    run: Callable[[str, int], Outcome] = run_forked,
) -> Iterator[Check]:
    """Run every workload of the groups, in order, and judge it.

    snapshot: of a tracer that is attached for the workloads' region. A workload that cannot run
    here, or that fails, gives a verdict, not an error.
    """
    for group in groups:
        for workload in group.workloads:
            yield _check(workload, snapshot, pages, run)


def with_losses_since(before: Snapshot, now: Snapshot) -> Snapshot:
    """`now`, with only the losses since `before`."""
    earlier = dict(before.completeness.detail)
    detail = ((cause, lost - earlier.get(cause, 0)) for cause, lost in now.completeness.detail)
    lost = replace(
        now.completeness,
        lost=now.completeness.lost - before.completeness.lost,
        detail=tuple((cause, lost) for cause, lost in detail if lost),
    )
    return replace(now, completeness=lost)


def _check(
    workload: Workload,
    snapshot: Callable[[], Snapshot],
    pages: int,
    run: Callable[[str, int], Outcome],
) -> Check:
    start = time.monotonic()
    before = snapshot()
    try:
        check_pages(workload, pages)
    except CowtraceError as reason:  # more than this machine's memory holds
        return unfinished(workload, str(reason), before, 0, Verdict.UNSEEN)
    try:
        outcome = run(workload.name, pages)
    except Unsupported as reason:
        return unfinished(workload, str(reason), before, time.monotonic() - start, Verdict.UNSEEN)
    except CowtraceError as error:
        return unfinished(workload, str(error), before, time.monotonic() - start, Verdict.FAILS)
    trace = with_losses_since(before, snapshot())
    return judge(workload, outcome, trace, time.monotonic() - start)
