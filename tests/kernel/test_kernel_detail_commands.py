"""The commands that tell faults apart, on the VM's kernel."""

from __future__ import annotations

from detail_command_tests import (
    seen,
    test_forks_counts_the_childs_copies_to_its_birth,
    test_latency_times_each_side_or_says_that_it_cannot,
    test_maps_tells_the_mapping_page_for_page,
    test_snoop_shows_each_fault_once,
)

__all__ = [
    "seen",
    "test_forks_counts_the_childs_copies_to_its_birth",
    "test_latency_times_each_side_or_says_that_it_cannot",
    "test_maps_tells_the_mapping_page_for_page",
    "test_snoop_shows_each_fault_once",
]
