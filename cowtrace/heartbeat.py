"""Count the steps of a refresh: a long one goes on taking them, a stuck one does not."""

from __future__ import annotations

steps = 0


def step() -> None:
    """One stack is named, or one change written."""
    global steps
    steps += 1
