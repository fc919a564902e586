"""`cowtrace verify` on this machine's kernel."""

from __future__ import annotations

import os

import pytest
from verify_tests import (
    test_an_interrupted_verify_ends_at_once_and_says_nothing,
    test_verify_says_what_fork_does_on_this_kernel,
)

from cowtrace import tracer
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError

__all__ = [
    "test_an_interrupted_verify_ends_at_once_and_says_nothing",
    "test_verify_says_what_fork_does_on_this_kernel",
]


@pytest.fixture(scope="module", autouse=True)
def can_trace() -> None:
    """Skips, with the reason, where no plan runs."""
    if os.geteuid() != 0:
        pytest.skip("tracing needs root")
    try:
        tracer.attach("auto").close()
    except CowtraceError as error:
        if error.exit_code != EXIT_NO_PLAN:
            raise
        pytest.skip(f"this machine: {error}")
