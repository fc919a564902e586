"""Runs the checks of some groups under one tracer; Checks come out one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from cowtrace.errors import CowtraceError
from cowtrace.model import Snapshot
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.groups import Group
from cowtrace.verify.judge import during, judge, unmade
from cowtrace.workloads import Outcome, run_forked
from cowtrace.workloads.workload import Unsupported, Workload, check_pages

PAGES = 127  # a prime: counts that double, or that halve, show


class Live(Protocol):
    """What is needed of a tracer."""

    def snapshot(self) -> Snapshot:
        """Sums since attach."""


def checks(
    groups: Iterable[Group],
    live: Live,
    *,
    pages: int = PAGES,
    run: Callable[[str, int], Outcome] = run_forked,
) -> Iterator[Check]:
    """Run every workload of the groups, in order, and judge it.

    The tracer must be attached for the workloads' region. A workload that cannot be done here
    is a verdict, not an error; so is one that failed.
    """
    for group in groups:
        for workload in group.workloads:
            yield _check(workload, live, pages, run)


def _check(workload: Workload, live: Live, pages: int, run: Callable[[str, int], Outcome]) -> Check:
    start = time.monotonic()
    before = live.snapshot()
    try:
        check_pages(workload, pages)
    except CowtraceError as reason:  # more than this machine's memory holds
        return unmade(workload, str(reason), before, 0, Verdict.UNSEEN)
    try:
        outcome = run(workload.name, pages)
    except Unsupported as reason:
        return unmade(workload, str(reason), before, time.monotonic() - start, Verdict.UNSEEN)
    except CowtraceError as error:
        return unmade(workload, str(error), before, time.monotonic() - start, Verdict.FAILS)
    trace = during(live.snapshot(), before)
    return judge(workload, outcome, trace, time.monotonic() - start)
