"""Keep messages until a collector has taken them: bounded, the oldest dropped first."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

MOST_BYTES = 16 << 20  # of all that wait: hours of metrics
_LEAST_SECONDS, _MOST_SECONDS = 1.0, 60.0  # between two tries


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: a signal of endpoint.PATHS, and a request, serialized."""

    signal: str
    content: bytes


class Queue:
    """Messages, by age. One thread puts, another one takes the first until it is done."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._ending_at: float | None = None
        self.dropped = 0  # messages: there was no room

    def put(self, message: Message) -> None:
        with self._changed:
            self._messages.append(message)
            self._bytes += len(message.content)
            while self._bytes > self._most_bytes:
                self._bytes -= len(self._messages.popleft().content)
                self.dropped += 1
            self._changed.notify_all()

    def first(self) -> Message | None:
        """Wait for a message; None: there are no more, or no more time."""
        with self._changed:
            while not self._messages and self._ending_at is None:
                self._changed.wait()
            return None if not self._messages or self._is_late() else self._messages[0]

    def done(self, message: Message) -> None:
        """It need not be kept; it may have been dropped meanwhile."""
        with self._changed:
            if self._messages and self._messages[0] is message:
                self._messages.popleft()
                self._bytes -= len(message.content)

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the end."""
        until = time.monotonic() + seconds
        with self._changed:
            while (now := time.monotonic()) < until and not self._is_late():
                end = until if self._ending_at is None else min(until, self._ending_at)
                self._changed.wait(max(0.0, end - now))

    def end(self, seconds: float) -> None:
        """No more come; what waits may take so long."""
        with self._changed:
            self._ending_at = time.monotonic() + seconds
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._messages)

    def _is_late(self) -> bool:
        return self._ending_at is not None and time.monotonic() >= self._ending_at


def pauses(tries: int) -> float:
    """Seconds to wait after so many tries of one message, from 1: twice as long each time."""
    return min(_MOST_SECONDS, _LEAST_SECONDS * (1 << min(tries - 1, 16)))
