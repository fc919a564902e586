"""The command line on this machine's kernel."""

from __future__ import annotations

import pytest
from command_tests import (
    test_a_later_start_needs_no_compiler_and_counts_the_same,
    test_an_interrupted_top_shows_its_last_table_and_leaves_nothing_loaded,
    test_run_passes_on_the_exit_code,
    test_the_doctor_names_the_plan_that_auto_takes,
    test_workload_agrees_and_says_so,
)

pytestmark = pytest.mark.usefixtures("can_trace")

__all__ = [
    "test_a_later_start_needs_no_compiler_and_counts_the_same",
    "test_an_interrupted_top_shows_its_last_table_and_leaves_nothing_loaded",
    "test_run_passes_on_the_exit_code",
    "test_the_doctor_names_the_plan_that_auto_takes",
    "test_workload_agrees_and_says_so",
]
