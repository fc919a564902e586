"""Tell when the processes that -p names have all ended, also where /proc no longer shows them."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress


@contextmanager
def have_ended(pids: Sequence[int]) -> Iterator[Callable[[], bool]]:
    """Yield a function: whether all of these have ended. It is never true without one of them.

    By descriptors of the processes, so that a PID that is given again is no error. A zombie has
    ended.
    """
    with ExitStack() as stack:
        waiting = select.poll()
        running: set[int] = set()
        for pid in pids:
            with suppress(ProcessLookupError):  # it has ended already
                descriptor = os.pidfd_open(pid)
                stack.callback(os.close, descriptor)
                running.add(descriptor)
                waiting.register(descriptor, select.POLLIN)

        def ended() -> bool:
            for descriptor, _ in waiting.poll(0):
                running.discard(descriptor)
                waiting.unregister(descriptor)
            return bool(pids) and not running

        yield ended
