"""Sets of frames as bits say the same as Python's sets."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from cowtrace.frames.frame_sets import FrameSets, block_of

# Few of them, in few blocks of 32,768: many are in several sets.
FRAMES = st.integers(0, 40) | st.integers(32_760, 32_776) | st.integers(1 << 34, (1 << 34) + 8)
SETS = st.lists(st.sets(FRAMES, max_size=30), min_size=1, max_size=5)


def made_of(sets: list[set[int]]) -> FrameSets:
    made = FrameSets(len(sets))
    for index, frames in enumerate(sets):
        made.add([index], sorted(frames))
    return made


@given(SETS)
def test_counts_are_those_of_sets(sets: list[set[int]]) -> None:
    made = made_of(sets)
    assert [made.size(index) for index in range(len(sets))] == list(map(len, sets))
    for one, other in combinations(range(len(sets)), 2):
        assert made.common(one, other) == made.common(other, one) == len(sets[one] & sets[other])
    times = Counter(frame for frames in sets for frame in frames)
    assert made.alone() == [sum(times[frame] == 1 for frame in frames) for frames in sets]
    for frame in {*times, 7, 1 << 40}:
        block, bit = block_of(frame)
        assert made.several(block) >> bit & 1 == (times[frame] > 1)
        assert [made.bits(index, block) >> bit & 1 for index in range(len(sets))] == [
            frame in frames for frames in sets
        ]
    exactly = Counter(times.values())
    assert made.by_holders() == [exactly[k] for k in range(1, len(sets) + 1)]


@given(st.sets(FRAMES), st.sets(FRAMES))
def test_frames_are_added_to_several_sets_at_once(common: set[int], own: set[int]) -> None:
    made = FrameSets(3)
    made.add([0, 2], common)
    made.add([2], own)
    assert [made.size(index) for index in range(3)] == [len(common), 0, len(common | own)]
