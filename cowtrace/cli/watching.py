"""Intervals on the clock, and the two snapshots that each of them is between."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from cowtrace import tracer
from cowtrace.cli.choose_screen import Screen
from cowtrace.cli.signals import Held, held
from cowtrace.model import Snapshot

ENDING = (signal.SIGINT, signal.SIGTERM)
_LOOK_SECONDS = 1.0  # between two looks, where what is not looked at soon is lost


def ending_held(stack: ExitStack) -> Held:
    """Hold back what ends a live view, and what resizes it, until the stack is closed."""
    return stack.enter_context(held(*ENDING, signal.SIGWINCH))


def ticks(
    signals: Held,
    interval: float,
    count: int | None,
    show: Screen | None,
    look: Callable[[], object] | None = None,
) -> Iterator[None]:
    """One item at the end of each interval, and a last one when a signal ends it early.

    Within a long one, `look` is called every second.
    """
    deadline = time.monotonic() + interval
    done = 0
    while count is None or done < count:
        soon = time.monotonic() + _LOOK_SECONDS
        info = signals.wait(min(soon, deadline) if look else deadline)
        if info is None and look and time.monotonic() < deadline:
            look()
            continue
        if info and info.si_signo == signal.SIGWINCH:
            if show:
                show.resized()
            continue
        yield
        if info:
            return
        done += 1
        # a refresh that took longer than the interval must not be followed by a burst
        deadline = max(deadline + interval, time.monotonic())


def snapshots(
    live: tracer.Tracer,
    signals: Held,
    interval: float,
    count: int | None,
    show: Screen | None,
    *,
    look: bool = False,
) -> Iterator[tuple[Snapshot, Snapshot | None]]:
    """At each tick the snapshot of now, and the one that rates are measured from.

    With `look` also within long intervals: stacks are named while their processes live.
    """
    earlier: Snapshot | None = None
    before: Snapshot | None = None
    for _ in ticks(signals, interval, count, show, live.snapshot if look else None):
        now = live.snapshot()
        # a signal may end the last interval too early for a rate: then it is that of two
        if before and now.at_ns - before.at_ns < interval * 0.5e9:
            before = earlier
        yield now, before
        earlier, before = before, now
