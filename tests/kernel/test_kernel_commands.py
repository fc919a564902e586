"""The command line on the VM's kernel."""

from __future__ import annotations

from command_tests import (
    test_a_later_start_needs_no_compiler_and_counts_the_same,
    test_an_interrupted_top_shows_its_last_table_and_leaves_nothing_loaded,
    test_run_passes_on_the_exit_code,
    test_the_doctor_names_the_plan_that_auto_takes,
)

__all__ = [
    "test_a_later_start_needs_no_compiler_and_counts_the_same",
    "test_an_interrupted_top_shows_its_last_table_and_leaves_nothing_loaded",
    "test_run_passes_on_the_exit_code",
    "test_the_doctor_names_the_plan_that_auto_takes",
]
