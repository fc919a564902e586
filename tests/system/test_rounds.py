"""A snapshot includes everything counted before it, with and without cells.

On a preemptible kernel the tracepoint plan has no cells. The same programs run on this kernel, too.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from workload_checks import PRIME_PAGES

from cowtrace import tracer
from cowtrace.kernel.facts import kernel_facts
from cowtrace.model import FaultKind
from cowtrace.tracer.filter import Filter
from cowtrace.workloads import run_forked
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = [
    pytest.mark.host,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.x86_64,  # arm64 has no tracepoint plan
]


@pytest.mark.parametrize("preemptible", [False, True])
def test_each_snapshot_includes_what_was_counted_before_it(
    monkeypatch: pytest.MonkeyPatch, preemptible: bool
) -> None:
    facts = replace(kernel_facts(), preemptible=preemptible)
    monkeypatch.setattr(tracer, "kernel_facts", lambda: facts)
    only = Filter(pids=(os.getpid(),), follow=True)
    with tracer.attach("tracepoint", region=(REGION_START, REGION_END), only=only) as live:
        assert ("CELLS" in live.probe_plan.defines) is not preemptible
        for _ in range(3):  # rounds of both parities
            outcome = run_forked("fork-child-writes", PRIME_PAGES)
            child = live.snapshot().process(outcome.processes[1].pid)
            assert child
            assert child.count(FaultKind.COPIED) == PRIME_PAGES
            assert child.count(FaultKind.REUSED) == 0
