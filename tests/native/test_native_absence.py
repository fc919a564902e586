"""What this machine's kernel lacks, or is made to look as if it lacked."""

from __future__ import annotations

import pytest
from absence_tests import (
    test_without_btf_each_command_is_refused,
    test_without_btf_each_plan_is_refused,
    test_without_btf_the_doctor_says_what_is_missing,
    test_without_kprobes_another_plan_is_taken_and_right,
    test_without_kprobes_that_plan_is_refused,
    test_without_tracefs_each_plan_is_right,
    without,
)

pytestmark = pytest.mark.usefixtures("can_trace")

__all__ = [
    "test_without_btf_each_command_is_refused",
    "test_without_btf_each_plan_is_refused",
    "test_without_btf_the_doctor_says_what_is_missing",
    "test_without_kprobes_another_plan_is_taken_and_right",
    "test_without_kprobes_that_plan_is_refused",
    "test_without_tracefs_each_plan_is_right",
    "without",
]
