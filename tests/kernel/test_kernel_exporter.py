"""`cowtrace export prometheus` on the VM's kernel."""

from __future__ import annotations

from exporter_tests import (
    test_counts_of_a_workload_and_they_stay_when_it_has_ended,
    test_its_own_cost_is_told_while_the_kernel_measures_it,
    test_sums_are_those_of_another_trace_of_the_same,
)

__all__ = [
    "test_counts_of_a_workload_and_they_stay_when_it_has_ended",
    "test_its_own_cost_is_told_while_the_kernel_measures_it",
    "test_sums_are_those_of_another_trace_of_the_same",
]
