"""Containers on this machine's kernel."""

from __future__ import annotations

import pytest
from container_tests import (
    container,
    test_a_recording_keeps_it,
    test_forks_and_tables_say_it_below,
    test_from_within_one_it_is_refused,
    test_pids_as_the_container_knows_them_and_its_cgroup,
    test_sums_by_cgroup,
)

__all__ = [
    "container",
    "test_a_recording_keeps_it",
    "test_forks_and_tables_say_it_below",
    "test_from_within_one_it_is_refused",
    "test_pids_as_the_container_knows_them_and_its_cgroup",
    "test_sums_by_cgroup",
]

pytestmark = pytest.mark.usefixtures("can_trace")
