"""Every input that ever found something, and changes of whole ones: see tests/fuzz/targets.py."""

from __future__ import annotations

from functools import cache

import pytest
from fuzz import targets
from fuzzing import CASES, fuzzed
from hypothesis import given
from hypothesis import strategies as st

CHANGE = st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8))


@cache
def inputs(name: str) -> tuple[bytes, ...]:
    return tuple(data for _, data in targets.inputs(name))


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_target_has_a_corpus_and_reads_it(name: str) -> None:
    assert inputs(name)
    for data in inputs(name):
        targets.TARGETS[name](data)


def test_no_corpus_is_without_a_target() -> None:
    assert {path.name for path in targets.CORPUS.iterdir()} <= set(targets.TARGETS)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_changes_of_it(name: str) -> None:
    """`make fuzz` keeps what found something, the shortest that does."""

    @fuzzed
    @given(st.integers(0), st.lists(CHANGE, max_size=9), st.floats(0, 1))
    def changed(number: int, changes: list[tuple[float, bytes]], kept: float) -> None:
        data = bytearray(inputs(name)[number % len(inputs(name))])
        for where, what in changes:
            at = int(where * len(data))
            data[at : at + len(what)] = what
        found.append(bytes(data[: int(kept * len(data))] if kept < 0.2 else data))
        targets.TARGETS[name](found[-1])

    found: list[bytes] = []
    try:
        changed()
    except Exception as error:
        if CASES > 1000:
            error.add_note(f"kept: {targets.keep(name, found[-1])}")
        raise
