"""Relay between a running VM's ports and this process until the command's exit code arrives."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

from cowtrace.errors import EXIT_TIMEOUT

BOOT_SECONDS = 120  # from QEMU's start to the command's start; emulation takes 5 s
ESCAPE = b"\x1d"  # Ctrl-]: ends the VM where Ctrl-C belongs to the command
_CHUNK = 1 << 16
_FORWARDED = {signal.SIGINT: b"INT\n", signal.SIGTERM: b"TERM\n", signal.SIGHUP: b"HUP\n"}


class Session:
    """Relay between QEMU's sockets and this process's own streams until the command ends.

    code: the command's exit code, once known. ready: the guest's userspace is up.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        sockets: Mapping[str, socket.socket],
        terminal: bool,
        timeout_seconds: float | None,
        *,
        on_booted: Callable[[], None],
        on_ready: Callable[[], None],
    ) -> None:
        """sockets: our ends of qemu.PORTS. terminal: the command uses this terminal.

        Calls on_booted when the kernel is up and waits, on_ready before the command starts.
        """
        self.code: int | None = None
        self.ready = False
        self._process = process
        self._control = sockets["control"]
        # Keyed by the file descriptor that its bytes are written to.
        self._streams = (
            {1: sockets["terminal"]} if terminal else {1: sockets["stdout"], 2: sockets["stderr"]}
        )
        self._terminal = terminal
        self._timeout_seconds = timeout_seconds
        self._on_booted = on_booted
        self._on_ready = on_ready
        self._message = b""

    def relay(self, *, started: bool) -> int | None:
        """Relay, and return the exit code; None if the VM ended without one or never came up.

        started: the VM was restored from a saved state, and waits already.
        """
        begin = time.monotonic()
        limit = self._timeout_seconds
        if started:
            self._go()
        with contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            stack.enter_context(self._signals())
            selector.register(self._control, selectors.EVENT_READ)
            for stream in self._streams.values():
                selector.register(stream, selectors.EVENT_READ)
            while self.code is None and self._control in selector.get_map():
                elapsed = time.monotonic() - begin
                if limit is not None and elapsed >= limit:
                    self.code = EXIT_TIMEOUT
                    break
                if not self.ready and elapsed >= BOOT_SECONDS:
                    break
                was_ready = self.ready
                ends = [end for end in (limit, None if self.ready else BOOT_SECONDS) if end]
                for key, _ in selector.select(min(ends) - elapsed if ends else None):
                    if not self._read(key.fileobj):
                        selector.unregister(key.fileobj)
                if self._terminal and self.ready and not was_ready:
                    stack.enter_context(_raw())
                    selector.register(0, selectors.EVENT_READ)
            self._process.kill()  # no need of a shutdown: its disk is a snapshot
            self._process.wait()
            for target, stream in self._streams.items():
                stream.setblocking(False)
                while _copy(stream, target):
                    pass
        return self.code

    def _read(self, source: object) -> bool:
        """Read once from a port or the keyboard; False at end of file."""
        if source is self._control:
            return self._read_control()
        if source == 0:
            keys = os.read(0, _CHUNK)
            if ESCAPE in keys:
                self.code = 128 + signal.SIGTERM
            else:
                _send(self._streams[1], keys)
            return bool(keys)
        target = next(number for number, stream in self._streams.items() if stream is source)
        return _copy(self._streams[target], target)

    def _read_control(self) -> bool:
        piece = _receive(self._control)
        self._message += piece
        *lines, self._message = self._message.split(b"\n")
        for line in lines:
            if line == b"booted":
                self._on_booted()
                self._go()
            elif line == b"ready":
                self.ready = True
                self._on_ready()
            elif line.startswith(b"exit "):
                self.code = int(line[5:])
        return bool(piece)

    def _go(self) -> None:
        """Send the current time to the waiting guest, which then continues."""
        _send(self._control, b"%d\n" % time.time())

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Send the first signal to the command. A second one, or one during boot, ends QEMU."""
        seen = False

        def handle(number: int, frame: FrameType | None) -> None:
            nonlocal seen
            if self.ready and not seen:
                seen = True
                _send(self._control, _FORWARDED[signal.Signals(number)])
            else:
                self.code = 128 + number
                self._process.kill()  # closes its sockets, which wakes the loop

        before = {number: signal.signal(number, handle) for number in _FORWARDED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Send every key to the guest's terminal, even Ctrl-C; only the guest echoes."""
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _copy(stream: socket.socket, target: int) -> bool:
    data = memoryview(_receive(stream))
    more = bool(data)
    while data:
        data = data[os.write(target, data) :]
    return more


def _receive(stream: socket.socket) -> bytes:
    """Some bytes; none at the end, which can be a reset if QEMU was killed."""
    try:
        return stream.recv(_CHUNK)
    except (BlockingIOError, ConnectionResetError):
        return b""


def _send(stream: socket.socket, data: bytes) -> None:
    """Send to the guest. If it has ended, the next read finds that."""
    with contextlib.suppress(ConnectionError):
        stream.sendall(data)
