"""`cowtrace verify` on the VM's kernel."""

from __future__ import annotations

from verify_tests import (
    test_an_interrupted_verify_ends_at_once_and_says_nothing,
    test_verify_says_what_fork_does_on_this_kernel,
)

__all__ = [
    "test_an_interrupted_verify_ends_at_once_and_says_nothing",
    "test_verify_says_what_fork_does_on_this_kernel",
]
