"""Have stacks named by the symbolizer, a child process without privileges; bound what it costs.

The files that it reads are hostile. When they end or stop it, it is started anew, and the process
whose files did that is not named any more.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from sys import intern
from typing import Any

from cowtrace.child import command
from cowtrace.kernel import arch
from cowtrace.model import Stack, StackFrame
from cowtrace.symbolizer import messages
from cowtrace.symbolizer.messages import Identity
from cowtrace.tracer import process_files
from cowtrace.tracer.process_files import RequestedFiles, in_time

UNKNOWN = "[unknown]"
_SECONDS = 3.0  # for one stack
_PATIENT_SECONDS = 60.0  # for what is not hostile: its start, and the kernel's symbols
# For all stacks of a round; the rest stays unnamed. A slow machine needs longer: this many times
# the symbolizer's fastest start, in which nothing hostile is read.
_ROUND_SECONDS = 4.0
_ROUND_STARTS = 30
_MOST_BYTES = 56 << 20  # of its memory, for the kernel's stacks
_LEAST_BYTES = 24 << 20  # that it may always take
_TOGETHER_BYTES = 104 << 20  # of its memory and that of this process, which a storm needs
_OWN_BYTES = 56 << 20  # that this process may need until the stack has its names
_MOST_OPENS = 512  # for one stack
_LOOK_SECONDS = 0.01  # between two looks at how much memory it takes
_STRIKES = 8  # of one user's processes, before none of that user's is named
_FORGIVEN_SECONDS = 600.0
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_INSTRUCTION_POINTER = arch.this().dwarf_order[-1]  # its index in struct pt_regs

# Causes of `[unknown]`, as Completeness.detail names them.
DIED, SLOW, LARGE, REFUSED = (
    "symbolizer ended", "symbolizer too slow", "symbolizer too large", "stacks not named"
)  # fmt: skip


class _Failed(Exception):
    """The symbolizer gave no answer; with the cause."""


class Symbolizer:
    """Starts the child process when the first stack is to be named. `close` ends it.

    `kernel`: stacks of the kernel will be named, too. Its symbols are opened now: later this
    process may not be allowed to see addresses.
    """

    def __init__(self, *, kernel: bool = False) -> None:
        self._kallsyms = os.open("/proc/kallsyms", os.O_RDONLY | os.O_CLOEXEC) if kernel else -1
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._round = 0
        self._fastest_start = _PATIENT_SECONDS
        self._round_seconds = _ROUND_SECONDS
        self._left = _ROUND_SECONDS
        self._room = _MOST_BYTES  # that it may take for this stack
        self._given_up: set[Identity] = set()
        self._strikes: Counter[int | None] = Counter()
        self._users: dict[int, int] = {}  # of processes that were seen alive
        self._forgave = time.monotonic()
        self.causes: Counter[str] = Counter()

    def new_round(self) -> None:
        """Read the mappings of each process again."""
        self._round += 1
        self._left = self._round_seconds
        if time.monotonic() - self._forgave > _FORGIVEN_SECONDS:
            self._forgave = time.monotonic()
            self._given_up.clear()
            self._strikes.clear()
            self._users.clear()

    def kernel_stack(self, addresses: Sequence[int]) -> Stack:
        """Frames of the kernel's code."""
        request = {"family": None, "addresses": list(addresses)}
        stack, _ = self._named(request, b"", _PATIENT_SECONDS, self._kernel_file)
        return stack or _unnamed(addresses)

    def user_stack(
        self,
        addresses: Sequence[int],
        family: Sequence[Identity],
        living: int | None,
        dump: bytes | None = None,
    ) -> Stack:
        """Frames of a process. `family`: it, and those it was forked from; `living`: the index of
        the nearest that lives. With `dump`, `addresses` are registers, and the stack is unwound.
        """
        owner = family[living or 0]
        user = self._user(owner[0])
        otherwise = addresses if dump is None else (addresses[_INSTRUCTION_POINTER],)
        if owner in self._given_up or self._strikes[user] >= _STRIKES or self._left <= 0:
            self.causes[REFUSED] += 1
            return _unnamed(otherwise)
        request = {
            "family": family, "living": living, "round": self._round, "unwind": dump is not None,
            "addresses": list(addresses),
        }  # fmt: skip
        began = time.monotonic()
        files = RequestedFiles(family, living, self._user)
        stack, failed = self._named(request, dump or b"", _SECONDS, files)
        self._left -= time.monotonic() - began
        if failed:
            self._given_up.add(owner)
            self._strikes[user] += 1
        return stack or _unnamed(otherwise)

    def close(self) -> None:
        """Idempotent."""
        self._end()
        fd, self._kallsyms = self._kallsyms, -1
        if fd >= 0:
            os.close(fd)

    def _end(self) -> None:
        """End the child; the next request starts another."""
        if self._child:
            self._child.kill()
            self._child.wait()
            self._child = None
        if self._socket:
            self._socket.close()
            self._socket = None

    def _named(
        self,
        request: dict[str, Any],
        dump: bytes,
        seconds: float,
        files: Callable[[Sequence[Any]], int | None],
    ) -> tuple[Stack | None, bool]:
        """What the child answers, None if it does not; and whether this request is the reason.

        A child that answered others before may have been harmed by one of them: then a new one
        is asked.
        """
        left = _TOGETHER_BYTES - max(_OWN_BYTES, _resident_bytes(os.getpid()))
        hostile = request["family"] is not None
        self._room = max(left, _LEAST_BYTES) if hostile else _MOST_BYTES
        for _ in range(2):
            is_new = self._socket is None
            try:
                reply = self._ask(request, dump, seconds, files)
                if reply.get("large"):
                    self.causes[LARGE] += 1
                return tuple(_frame(each) for each in reply["frames"]), False
            except _Failed as error:
                cause = str(error)
            except (OSError, EOFError, KeyError, TypeError, ValueError):
                cause = DIED
            self._end()
            if cause in (DIED, LARGE) and self._room < _TOGETHER_BYTES - _OWN_BYTES:
                self.causes[LARGE] += 1
                return None, False  # with as much memory as at other times it may be named
            self.causes[cause] += 1
            if is_new or cause != DIED:
                return None, True
        return None, True

    def _ask(
        self,
        request: dict[str, Any],
        dump: bytes,
        seconds: float,
        files: Callable[[Sequence[Any]], int | None],
    ) -> dict[str, Any]:
        to = self._socket or self._start()
        messages.send(to, request | {"room": self._room}, dump)
        deadline = time.monotonic() + seconds
        for _ in range(_MOST_OPENS):
            reply = self._receive(to, deadline)
            if "open" not in reply:
                return reply
            fd = in_time(partial(files, reply["open"]))
            try:
                messages.send(to, {}, fd=-1 if fd is None else fd)
            finally:
                if fd is not None:
                    os.close(fd)
        raise _Failed(SLOW)

    def _receive(self, from_: socket.socket, deadline: float) -> dict[str, Any]:
        while (left := deadline - time.monotonic()) > 0:
            from_.settimeout(min(left, _LOOK_SECONDS))
            try:
                return messages.receive(from_)[0]
            except TimeoutError:
                self._check_size()
        raise _Failed(SLOW)

    def _start(self) -> socket.socket:
        began = time.monotonic()
        ours, theirs = messages.pair()
        # For reading alone: once confined, this process may open nothing for writing.
        with theirs, Path(os.devnull).open("rb") as null:
            # A session of its own: Ctrl-C and the signals of a terminal do not reach it.
            self._child = subprocess.Popen(
                command("cowtrace.symbolizer", str(os.getpid())),
                stdin=theirs.fileno(),
                stdout=null,
                stderr=null,
                env={},
                start_new_session=True,
            )
        self._socket = ours
        self._receive(ours, began + _PATIENT_SECONDS)  # it is ready
        self._fastest_start = min(self._fastest_start, time.monotonic() - began)
        seconds = max(_ROUND_SECONDS, _ROUND_STARTS * self._fastest_start)
        self._left += seconds - self._round_seconds
        self._round_seconds = seconds
        return ours

    def _kernel_file(self, _wanted: Sequence[Any]) -> int:
        return os.dup(self._kallsyms)

    def _check_size(self) -> None:
        assert self._child
        if _resident_bytes(self._child.pid) > self._room:
            raise _Failed(LARGE)

    def _user(self, pid: int) -> int | None:
        """Who owns a process, or owned it while it lived."""
        user = process_files.owner(pid)
        if user is None:
            return self._users.get(pid)
        self._users[pid] = user
        return user


def _resident_bytes(pid: int) -> int:
    return int(Path("/proc", str(pid), "statm").read_text().split()[1]) * _PAGE_BYTES


def _frame(reply: Sequence[Any]) -> StackFrame:
    symbol, module, address = reply
    if not (isinstance(symbol, str) and isinstance(module, str) and isinstance(address, int)):
        raise TypeError(reply)
    return StackFrame(intern(symbol or UNKNOWN), intern(module), address)


def _unnamed(addresses: Sequence[int]) -> Stack:
    return tuple(StackFrame(UNKNOWN, "", address) for address in addresses)
