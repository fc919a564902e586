"""An expected failure carries its hint and its exit code, and no two codes mean two things."""

from __future__ import annotations

from cowtrace import errors
from cowtrace.errors import CowtraceError


def test_message_hint_and_code() -> None:
    error = CowtraceError("no such thing", hint="try another", exit_code=errors.EXIT_NO_VM)
    assert (str(error), error.hint, error.exit_code) == ("no such thing", "try another", 5)


def test_without_a_code_it_is_a_plain_failure() -> None:
    assert CowtraceError("no", hint="yes").exit_code == errors.EXIT_FAILURE


def test_exit_codes_are_distinct_and_none_means_success() -> None:
    codes = [value for name, value in vars(errors).items() if name.startswith("EXIT_")]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 128 for code in codes)  # from 128 on: ended by a signal
