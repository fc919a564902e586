"""`cowtrace verify` on this machine's kernel."""

from __future__ import annotations

import pytest
from verify_tests import (
    test_an_interrupted_verify_ends_at_once_and_says_nothing,
    test_verify_says_what_fork_does_on_this_kernel,
)

pytestmark = pytest.mark.usefixtures("can_trace")

__all__ = [
    "test_an_interrupted_verify_ends_at_once_and_says_nothing",
    "test_verify_says_what_fork_does_on_this_kernel",
]
