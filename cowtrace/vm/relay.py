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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import FrameType

from cowtrace.errors import EXIT_TIMEOUT

BOOT_SECONDS = 120  # from QEMU's start to the command's start; emulation takes 5 s
ESCAPE = b"\x1d"  # Ctrl-]: ends the VM where Ctrl-C belongs to the command
_CHUNK = 1 << 16
_FORWARDED = {signal.SIGINT: b"INT\n", signal.SIGTERM: b"TERM\n", signal.SIGHUP: b"HUP\n"}


@dataclass
class Session:
    """Relay between QEMU's sockets and this process's own streams until the command ends."""

    process: subprocess.Popen[bytes]
    sockets: Mapping[str, socket.socket]  # our ends of qemu.PORTS
    terminal: bool  # the command uses this terminal
    timeout_seconds: float | None
    on_booted: Callable[[], None]  # called when the kernel is up and waits
    on_ready: Callable[[], None]  # called before the command starts
    code: int | None = None  # the command's exit code, once known
    ready: bool = False  # the guest's userspace is up
    finished: bool = False  # the command has ended by itself, and the guest after it
    _message: bytes = b""  # the start of a line from the guest
    _signalled: bool = False  # the command has received a signal

    @property
    def _streams(self) -> dict[int, socket.socket]:
        """The guest's output, by the file descriptor that its bytes are written to."""
        if self.terminal:
            return {1: self.sockets["terminal"]}
        return {1: self.sockets["stdout"], 2: self.sockets["stderr"]}

    def relay(self, *, started: bool) -> int | None:
        """Relay, and return the exit code; None if the VM ended without one or never came up.

        started: the VM was restored from a saved state, and waits already.
        """
        begin = time.monotonic()
        limit = self.timeout_seconds
        control = self.sockets["control"]
        if started:
            self._go()
        with contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            for number in _FORWARDED:
                stack.callback(signal.signal, number, signal.signal(number, self._on_signal))
            selector.register(control, selectors.EVENT_READ, self._read_control)
            for target, stream in self._streams.items():
                selector.register(stream, selectors.EVENT_READ, partial(_copy, stream, target))
            while self.code is None and control in selector.get_map():
                elapsed = time.monotonic() - begin
                if limit is not None and elapsed >= limit:
                    self.code = EXIT_TIMEOUT
                    break
                if not self.ready and elapsed >= BOOT_SECONDS:
                    break
                was_ready = self.ready
                ends = [end for end in (limit, None if self.ready else BOOT_SECONDS) if end]
                for key, _ in selector.select(min(ends) - elapsed if ends else None):
                    if not key.data():  # at end of file
                        selector.unregister(key.fileobj)
                if self.terminal and self.ready and not was_ready:
                    # Every key goes to the guest's terminal, even Ctrl-C; only the guest echoes.
                    stack.callback(termios.tcsetattr, 0, termios.TCSADRAIN, termios.tcgetattr(0))
                    tty.setraw(0)
                    selector.register(0, selectors.EVENT_READ, self._read_keys)
            self.process.kill()  # no need of a shutdown: its disk is a snapshot
            self.process.wait()
            for target, stream in self._streams.items():
                stream.setblocking(False)
                while _copy(stream, target):
                    pass
        return self.code

    def _read_keys(self) -> bool:
        keys = os.read(0, _CHUNK)
        if ESCAPE in keys:
            self.code = 128 + signal.SIGTERM
        else:
            _send(self._streams[1], keys)
        return bool(keys)

    def _read_control(self) -> bool:
        piece = _receive(self.sockets["control"])
        self._message += piece
        *lines, self._message = self._message.split(b"\n")
        for line in lines:
            if line == b"booted":
                self.on_booted()
                self._go()
            elif line == b"ready":
                self.ready = True
                self.on_ready()
            elif line.startswith(b"exit "):
                self.code, self.finished = int(line[5:]), True
        return bool(piece)

    def _go(self) -> None:
        """Send the current time to the waiting guest, which then continues."""
        _send(self.sockets["control"], b"%d\n" % time.time())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Send the first signal to the command. A second one, or one during boot, ends QEMU."""
        if self.ready and not self._signalled:
            self._signalled = True
            _send(self.sockets["control"], _FORWARDED[signal.Signals(number)])
        else:
            self.code = 128 + number
            self.process.kill()  # closes its sockets, which wakes the loop


def _copy(stream: socket.socket, target: int) -> bool:
    """Write what can be read at once to a file descriptor; False at end of file."""
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
