"""Attach the tracers under which all applications run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from applications.watched import DETAILS, OURS, Watched
from cowtrace import tracer
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.plan import PLAN_NAMES
from cowtrace.kernel.preemption import preemptible


@pytest.fixture
def watched(attached: Watched) -> Iterator[Watched]:
    """The tracers of all applications, which then forget this test's: else a later test's details
    are folded, since those of ended processes count towards the most that a tracer keeps.
    """
    yield attached
    attached.look()
    for live in attached.tracers.values():
        live.forget_ended()


@pytest.fixture(scope="package")
def attached() -> Iterator[Watched]:
    """Attach every plan that runs here; skip, with the reason, where none does.

    On a preemptible kernel only kprobes lose nothing. Another plan is taken where they are
    missing: what it says is lost is then allowed for, see `uncertain_bytes`.
    """
    if os.geteuid() != 0:
        pytest.skip("tracing needs root")
    exact = [plan for plan in PLAN_NAMES if plan == "kprobe" or not preemptible()]
    with ExitStack() as stack:
        tracers: dict[str, tracer.Tracer] = {}
        refused = ""
        for plan in (*exact, "auto"):
            if plan == "auto" and tracers:
                break
            try:
                live = tracer.attach(plan, details=DETAILS, only=OURS)
            except CowtraceError as error:
                if error.exit_code != EXIT_NO_PLAN:
                    raise
                refused = str(error)
                continue
            tracers[live.plan] = stack.enter_context(live)
        if not tracers:
            pytest.skip(f"this machine: {refused}")
        yield Watched(tracers)
