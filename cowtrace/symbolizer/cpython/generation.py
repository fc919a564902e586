"""Tell which generation CPython's garbage collector collects, by what it counts meanwhile."""

from __future__ import annotations


def generation(count_1: int, count_2: int) -> int:
    """Which generation is collected, by the counts while `collecting` is not 0.

    A collection of generation N first sets the counts up to N to 0 and adds 1 to the next one. It
    does so after gc.callbacks have run: during these, the counts are of the collection before.
    """
    if count_1:
        return 0
    return 1 if count_2 else 2
