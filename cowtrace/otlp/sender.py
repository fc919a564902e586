"""Send messages to a collector, in a process of its own that has no privileges.

The tracer may make no connection, and waits for nobody: it hands messages over.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Protobuf
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceResponse,
)

from cowtrace.handover import give, pair, take
from cowtrace.libc import end_with
from cowtrace.otlp.endpoint import Answer, Endpoint, post
from cowtrace.otlp.queue import MOST_BYTES, Message, Queue, pauses
from cowtrace.text import printable

_ENDING_SECONDS = 5.0  # for what waits when the tracer ends
_MOST_PAUSE_SECONDS = 3600.0  # that a collector can ask for
_MOST_WORDS = 200  # of what a collector says
_ANSWERS: dict[str, tuple[Any, str]] = {
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
    "profiles": (ExportProfilesServiceResponse, "rejected_profiles"),
}


class Outbox:
    """The tracer's end."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def send(self, signal_name: str, request: Protobuf) -> bool:
        """Send later; False: it was dropped, since the sender takes nothing.

        Raises CowtraceError if the sending process has ended.
        """
        content = request.SerializeToString()
        return give(self._channel, content, signal_name, what="sends to the collector")


@contextmanager
def sending(endpoint: Endpoint, confine: Callable[[], None]) -> Iterator[Outbox]:
    """Send until the block is left, and then for a few seconds what still waits.

    `confine` gives up privileges. Call it before probes are attached: the process must not have
    their descriptors.
    """
    ours, theirs = pair()
    lives, holds = os.pipe()  # closed by the end of the process
    tracer = os.getpid()
    process = os.fork()
    if not process:
        try:
            ours.close()
            end_with(tracer)
            # Ctrl-C and a service manager's SIGTERM go to all processes: the tracer ends this one.
            for each in (signal.SIGINT, signal.SIGTERM):
                signal.signal(each, signal.SIG_IGN)
            confine()
            _send(endpoint, theirs)
        except Exception as error:
            _say(f"the process that sends to the collector failed: {error!r}")
        finally:
            os._exit(0)
    theirs.close()
    os.close(holds)
    try:
        yield Outbox(ours)
        ours.close()
        ended = select.poll()
        ended.register(lives, select.POLLHUP)
        if not ended.poll((_ENDING_SECONDS + 1) * 1000):
            _say(f"the last messages were not sent: {endpoint.shown} does not answer in time")
    finally:
        ours.close()
        os.close(lives)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _send(endpoint: Endpoint, channel: socket.socket) -> None:
    queue = Queue()
    threading.Thread(target=_fill, args=(queue, channel), daemon=True).start()
    tries, dropped, refused = 0, 0, False
    while message := queue.first():
        answer = post(endpoint, message.signal, message.content)
        words = printable(answer.words)[:_MOST_WORDS]
        if not answer.done and answer.again:
            if not tries:
                _say(
                    f"cannot send to {endpoint.shown}: {words}; it is tried again, and meanwhile "
                    f"the newest {MOST_BYTES >> 20} MiB are kept"
                )
            tries += 1
            queue.pause(max(pauses(tries), min(answer.after_seconds or 0.0, _MOST_PAUSE_SECONDS)))
            continue
        queue.done(message)
        if tries and queue.dropped > dropped:
            _say(f"{queue.dropped - dropped:,} messages were dropped meanwhile")
            dropped = queue.dropped
        tries = 0
        words = words or _rejected(message, answer)
        if words and not refused:
            refused = True  # the next ones will be, too
            _say(f"{endpoint.shown} does not take all {message.signal}: {words}")
    lost = queue.dropped - dropped + len(queue)
    if lost:
        _say(f"{lost:,} messages were not sent to {endpoint.shown}")


def _fill(queue: Queue, channel: socket.socket) -> None:
    while taken := take(channel):
        queue.put(Message(*taken))
    queue.end(_ENDING_SECONDS)


def _rejected(message: Message, answer: Answer) -> str:
    """What a collector says of a message that it took in part; empty: it took all."""
    kind, field = _ANSWERS[message.signal]
    with suppress(DecodeError):
        partial = kind.FromString(answer.content).partial_success
        number: int = getattr(partial, field)
        if number or partial.error_message:
            return f"{number:,} rejected: {printable(partial.error_message)[:_MOST_WORDS]}"
    return ""


def _say(words: str) -> None:
    sys.stderr.write(f"cowtrace: {words}\n")
    sys.stderr.flush()
