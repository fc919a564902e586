"""Attach a tracer for a command, and say so when it takes long."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cowtrace import tracer
from cowtrace.cli.options import notice

_PATIENCE_SECONDS = 2.0


def attach(plan: str, *, verbose: bool = False, **options: Any) -> tracer.Tracer:
    """`tracer.attach`, with its notices on stderr if `verbose`. Raises what that raises."""
    with waiting("compiling and attaching the probes"):
        return tracer.attach(plan, notice=notice if verbose else None, **options)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on stderr, once, what is going on if it takes longer than 2 seconds."""
    # A copy: while BCC works, the descriptor itself leads to a file that catches its messages.
    stderr = os.dup(2)
    timer = threading.Timer(_PATIENCE_SECONDS, os.write, (stderr, f"cowtrace: {what}\n".encode()))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        os.close(stderr)
