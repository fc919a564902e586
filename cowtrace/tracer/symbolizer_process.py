"""The child process that reads files of traced processes: its start, its requests, its end."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from cowtrace.child import command
from cowtrace.symbolizer import messages
from cowtrace.tracer.process_files import in_time

# Why it gave no answer, as Completeness.detail names it.
DIED, SLOW, LARGE = "symbolizer ended", "symbolizer too slow", "symbolizer too large"
_END_SECONDS = 2.0  # of a child that was killed; then it is left behind
_MOST_STUCK = 16  # children that were left behind; then no other is started
_START_SECONDS = 60.0  # nothing hostile is read meanwhile
_MOST_OPENS = 512  # for one request
_LOOK_SECONDS = 0.01  # between two looks at how much memory it takes
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")

# Opens the file that the child asks for; None: it cannot be had.
OpenFile = Callable[[Sequence[Any]], int | None]


class Failed(Exception):
    """The child gave no answer; with the cause. It was ended."""


class SymbolizerProcess:
    """Started by `start` or by a request, also after its end. `end` ends it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._stuck: list[subprocess.Popen[bytes]] = []  # that were killed, and have not ended yet
        self._is_ready = False
        self.has_answered = False  # since its start
        self.fastest_start_seconds: float | None = None  # None: it was never ready yet

    def start(self) -> None:
        """Start it; it must not run already. Returns before it is ready. Raises OSError."""
        ours, theirs = messages.pair()
        # For reading alone: once confined, this process may open nothing for writing.
        with theirs, Path(os.devnull).open("rb") as null:
            # A session of its own: Ctrl-C and the signals of a terminal do not reach it.
            self._child = subprocess.Popen(
                command("cowtrace.symbolizer", str(os.getpid()), str(time.monotonic())),
                stdin=theirs.fileno(),
                stdout=null,
                stderr=null,
                env={},
                start_new_session=True,
            )
        self._socket = ours

    def ask(
        self, request: dict[str, Any], payload: bytes, seconds: float, open_file: OpenFile
    ) -> dict[str, Any]:
        """Its reply, within that time. Raises Failed.

        request["room"]: how many bytes of memory it may take meanwhile.
        """
        try:
            to = self._ready(request["room"])
            messages.send(to, request, payload)
            deadline = time.monotonic() + seconds
            for _ in range(_MOST_OPENS):
                reply = self._receive(to, deadline, request["room"])
                if "open" not in reply:
                    self.has_answered = True
                    return reply
                fd = in_time(partial(open_file, reply["open"]))
                try:
                    messages.send(to, {}, fd=-1 if fd is None else fd)
                finally:
                    if fd is not None:
                        os.close(fd)
            raise Failed(SLOW)
        except Failed:
            self.end()
            raise
        except (OSError, EOFError, KeyError, TypeError, ValueError):
            raise Failed(LARGE if self.end() == messages.EXIT_NO_MEMORY else DIED) from None

    def end(self) -> int | None:
        """End it, if it runs; its exit code. None: it does not run."""
        code = None
        if self._child:
            self._child.kill()
            with suppress(subprocess.TimeoutExpired):
                code = self._child.wait(_END_SECONDS)
            if code is None:  # it reads memory of a file system that does not answer
                self._stuck.append(self._child)
            self._child = None
        if self._socket:
            self._socket.close()
            self._socket = None
        self._is_ready = self.has_answered = False
        return code

    def _receive(self, from_: socket.socket, deadline: float, room: int) -> dict[str, Any]:
        while (left := deadline - time.monotonic()) > 0:
            from_.settimeout(min(left, _LOOK_SECONDS))
            try:
                return messages.receive(from_)[0]
            except TimeoutError:
                if self._child and resident_bytes(self._child.pid) > room:
                    raise Failed(LARGE) from None
        raise Failed(SLOW)

    def _ready(self, room: int) -> socket.socket:
        """Its socket, once it can take requests."""
        if not self._socket:
            self._stuck = [child for child in self._stuck if child.poll() is None]
            if len(self._stuck) >= _MOST_STUCK:
                raise Failed(SLOW)
            self.start()
        assert self._socket
        if not self._is_ready:
            reply = self._receive(self._socket, time.monotonic() + _START_SECONDS, room)
            seconds = float(reply["ready"])  # nothing hostile was read yet
            self.fastest_start_seconds = min(self.fastest_start_seconds or seconds, seconds)
            self._is_ready = True
        return self._socket


def resident_bytes(pid: int) -> int:
    """How much memory a process takes. Raises OSError when it has ended."""
    return int(Path("/proc", str(pid), "statm").read_text().split()[1]) * _PAGE_BYTES
