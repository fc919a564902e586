"""The command line on this machine's kernel."""

from __future__ import annotations

import os

import pytest
from command_tests import (
    test_a_later_start_needs_no_compiler_and_counts_the_same,
    test_an_interrupted_top_shows_its_last_table_and_leaves_nothing_loaded,
    test_run_passes_on_the_exit_code,
    test_workload_agrees_and_says_so,
)

from cowtrace import tracer
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError

__all__ = [
    "test_a_later_start_needs_no_compiler_and_counts_the_same",
    "test_an_interrupted_top_shows_its_last_table_and_leaves_nothing_loaded",
    "test_run_passes_on_the_exit_code",
    "test_workload_agrees_and_says_so",
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
