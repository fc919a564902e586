"""Attach a tracer for a command; report on stderr when it takes long."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cowtrace import sandbox, tracer
from cowtrace.cli.options import notice
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.options import Detail

_PATIENCE_SECONDS = 2.0
_COLLECTED = 100_000  # objects that were made since the last search for garbage
LATENCY: frozenset[Detail] = frozenset({"generation", "latency", "tlb-flush"})  # --latency's
_OPTIONAL: frozenset[Detail] = frozenset({"tlb-flush"})  # a column that may be missing

# How an error names a detail that the plan does not support.
_CANNOT: dict[Detail, str] = {
    "generation": "cannot follow forks",
    "mapping": "cannot attribute faults to mappings",
    "stack": "cannot read stacks",
    "kernel-stack": "cannot read kernel stacks",
    "latency": "cannot time faults",
}


def attach(
    plan: str,
    *,
    verbose: bool = False,
    details: frozenset[Detail] = frozenset(),
    optional: bool = False,
    **options: Any,
) -> tracer.Tracer:
    """`tracer.attach`, with its notices on stderr if `verbose`.

    Raises what that raises, and CowtraceError when the plan does not support one of the
    details, unless `optional`, or it is in _OPTIONAL.
    """
    sandbox.require()  # for Tracer.confine(), which may follow when a command already runs
    with waiting("compiling and attaching the probes"):
        live = tracer.attach(plan, notice=notice if verbose else None, details=details, **options)
    # A snapshot is many objects, and no garbage: by default, a storm of processes has them searched
    # for garbage again and again within one round, which takes longer than the round.
    gc.freeze()
    gc.set_threshold(_COLLECTED, 50, 1000)
    if not optional and (missing := sorted(details - live.probe_plan.details - _OPTIONAL)):
        live.close()
        raise CowtraceError(
            f"the {live.plan} plan {_CANNOT[missing[0]]} on this kernel",
            hint="see what the other plans need: cowtrace doctor; or use the VM: cowtrace vm",
            exit_code=EXIT_NO_PLAN,
        )
    return live


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Print `what` on stderr once if the work takes longer than 2 seconds."""
    timer = threading.Timer(_PATIENCE_SECONDS, os.write, (2, f"cowtrace: {what}\n".encode()))
    timer.daemon = True
    # The thread exists for a moment after join(). It must not receive a signal that is held by
    # then, as SIGCHLD is in `cowtrace run`: so it starts with all signals blocked.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    timer.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
