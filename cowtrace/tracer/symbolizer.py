"""Have stacks named by a child process without privileges; bound the time and memory it costs.

The files that it reads are hostile. When they end or stop it, it is started anew, and the process
whose files did that is not named any more.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from cowtrace.kernel import arch
from cowtrace.model import Stack
from cowtrace.symbolizer.messages import Identity
from cowtrace.tracer import abi, process_files
from cowtrace.tracer.process_files import RequestedFiles
from cowtrace.tracer.symbolizer_process import (
    DIED,
    LARGE,
    Failed,
    OpenFile,
    SymbolizerProcess,
    resident_bytes,
)
from cowtrace.tracer.symbolizer_replies import Explained, frames, unnamed, written

# For one stack. A slow machine needs longer: this many times the symbolizer's fastest start, in
# which nothing hostile is read.
_SECONDS = 3.0
_STARTS = 10
_KERNEL_SECONDS = 60.0  # for one of the kernel, whose symbols are not hostile
# For all stacks of a round; the rest stays unnamed.
_ROUND_SECONDS = 4.0
_ROUND_STARTS = 30
_MOST_BYTES = 56 << 20  # of its memory, for the kernel's stacks
_LEAST_BYTES = 24 << 20  # that it may always take
_TOGETHER_BYTES = 104 << 20  # of its memory and that of this process, which a storm needs
_OWN_BYTES = 56 << 20  # that this process may need until the stack has its names
_STRIKES = 8  # of one user's processes, before none of that user's is named
_FORGIVEN_SECONDS = 600.0
_INSTRUCTION_POINTER = arch.this().dwarf_order[-1]  # its index in struct pt_regs

REFUSED = "stacks not named"  # a cause of `[unknown]`, beside those of symbolizer_process

T = TypeVar("T")


class Symbolizer:
    """The child process is started by `start`, or when the first stack is to be named. `close`
    ends it.

    `kernel`: stacks of the kernel will be named, too. Its symbols are opened now: later this
    process may not be allowed to see addresses.
    """

    def __init__(self, *, kernel: bool = False) -> None:
        self._kallsyms = os.open("/proc/kallsyms", os.O_RDONLY | os.O_CLOEXEC) if kernel else -1
        self._process = SymbolizerProcess()
        self._round = 0
        self._round_seconds = _ROUND_SECONDS
        self._left = _ROUND_SECONDS
        self._given_up: set[Identity] = set()
        self._strikes: Counter[int | None] = Counter()
        self._users: dict[int, int] = {}  # of processes that were seen alive
        self._forgave = time.monotonic()
        self.causes: Counter[str] = Counter()

    def start(self) -> None:
        """Start the child process, so that the first stack need not wait for it."""
        with suppress(OSError):  # the first stack tries again, and says so
            self._process.start()

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
        request = {"want": "frames", "family": None, "addresses": list(addresses)}
        stack, _ = self._answer(request, b"", _KERNEL_SECONDS, self._kernel_file, frames)
        return stack or unnamed(addresses)

    def user_stack(
        self,
        addresses: Sequence[int],
        family: Sequence[Identity],
        living: int | None,
        dump: bytes | None = None,
        python: Sequence[abi.PythonFrame] = (),
    ) -> Stack:
        """Frames of a process. `family`: it, and those it was forked from; `living`: the index of
        the nearest that lives. With `dump`, `addresses` are registers, and the stack is unwound;
        frames of Python take the places of those of its interpreter.
        """
        request = {"want": "frames", "unwind": dump is not None, "addresses": list(addresses),
                   "python": python}  # fmt: skip
        found = self._of_process(request, dump or b"", family, living, frames)
        if found is None:
            found = unnamed(addresses if dump is None else (addresses[_INSTRUCTION_POINTER],))
        return found

    def written(
        self,
        records: Sequence[bytes],
        family: Sequence[Identity],
        living: int | None,
        relatives: Sequence[Identity] = (),
    ) -> tuple[list[Explained], bytes | None] | None:
        """What writes changed, and struct runtime; as Explanation. None: there is no answer.

        `relatives`: other processes that it may have been forked from.
        """
        request = {"want": "written", "relatives": relatives}
        parse = partial(written, count=len(records))
        return self._of_process(request, b"".join(records), family, living, parse)

    def close(self) -> None:
        """Idempotent."""
        self._process.end()
        fd, self._kallsyms = self._kallsyms, -1
        if fd >= 0:
            os.close(fd)

    def _of_process(
        self,
        request: dict[str, Any],
        payload: bytes,
        family: Sequence[Identity],
        living: int | None,
        parse: Callable[[dict[str, Any]], T],
    ) -> T | None:
        """The answer about one process, unless it was given up."""
        owner = family[living or 0]
        user = self._user(owner[0])
        if owner in self._given_up or self._strikes[user] >= _STRIKES or self._left <= 0:
            self.causes[REFUSED] += 1
            return None
        request |= {"family": family, "living": living, "round": self._round}
        began = time.monotonic()
        files = RequestedFiles(family, living, self._user)
        seconds = max(_SECONDS, _STARTS * self._start_seconds())
        answer, failed = self._answer(request, payload, seconds, files, parse)
        self._lengthen_rounds()
        self._left -= time.monotonic() - began
        if failed:
            self._given_up.add(owner)
            self._strikes[user] += 1
        return answer

    def _answer(
        self,
        request: dict[str, Any],
        payload: bytes,
        seconds: float,
        open_file: OpenFile,
        parse: Callable[[dict[str, Any]], T],
    ) -> tuple[T | None, bool]:
        """What the child answers, None if it does not; and whether this request is the reason.

        A child that answered others before may have been harmed by one of them: then a new one
        is asked.
        """
        room = _MOST_BYTES if request["family"] is None else self._room()
        for _ in range(2):
            is_new = not self._process.has_answered
            try:
                reply = self._process.ask(request | {"room": room}, payload, seconds, open_file)
                answer = parse(reply)
            except Failed as error:
                cause = str(error)
            except (LookupError, TypeError, ValueError):
                self._process.end()
                cause = DIED
            else:
                if reply.get("large"):
                    self.causes[LARGE] += 1
                return answer, False
            self.causes[cause] += 1
            if cause == LARGE and room < _TOGETHER_BYTES - _OWN_BYTES:
                return None, False  # with as much memory as at other times it may be named
            if is_new or cause != DIED:
                return None, True
        return None, True

    def _room(self) -> int:
        """How many bytes of memory the child may take beside this process."""
        left = _TOGETHER_BYTES - max(_OWN_BYTES, resident_bytes(os.getpid()))
        return max(left, _LEAST_BYTES)

    def _lengthen_rounds(self) -> None:
        seconds = max(_ROUND_SECONDS, _ROUND_STARTS * self._start_seconds())
        self._left += seconds - self._round_seconds
        self._round_seconds = seconds

    def _kernel_file(self, _wanted: Sequence[Any]) -> int:
        return os.dup(self._kallsyms)

    def _start_seconds(self) -> float:
        """The fastest so far; 0 before the first."""
        return self._process.fastest_start_seconds or 0.0

    def _user(self, pid: int) -> int | None:
        """Who owns a process, or owned it while it lived."""
        user = process_files.owner(pid)
        if user is None:
            return self._users.get(pid)
        self._users[pid] = user
        return user
