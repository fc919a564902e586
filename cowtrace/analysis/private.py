"""Add up where the private memory of processes came from, and where it went."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cowtrace import proc as processes
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.frames import entries
from cowtrace.frames.changes import Cause, after_fork, changes
from cowtrace.frames.entries import AddressSpace, Gone
from cowtrace.frames.smaps import Rollup, rollup
from cowtrace.frames.words import PAGE_BYTES, zero_frame
from cowtrace.model import FaultKind, Process, Snapshot

_PROC = Path("/proc")
_TRIES = 3  # to read a process while none of its private memory changes
TRACED = {
    FaultKind.COPIED: Cause.REPLACED,
    FaultKind.FILE_COPIED: Cause.FROM_FILE,
    FaultKind.ZERO_FILLED: Cause.ZERO_FILLED,
}
_EMPTY = AddressSpace(0)
_TICKS = os.sysconf("SC_CLK_TCK")  # a second, of the start of a process
# Where its code, its stack and its arguments begin: another program has other addresses.
_Image = tuple[bytes, bytes, bytes]


@dataclass(slots=True)
class Account:
    """The private memory of one process since it was first read, or created. In bytes."""

    pid: int
    name: str
    began: int  # private memory then, by smaps; 0: it was created since
    now: int
    moved: int  # by how much it changed while it was last read
    files: int = 0  # of the difference: pages of files and of shared memory
    by_cause: Counter[Cause] = field(default_factory=Counter)  # never negative
    traced: dict[Cause, int] | None = None  # what a probe counted; None: no probe
    anonymous: int = 0  # now, by smaps; likewise the next
    swap: int = 0
    unread: int = 0  # of sparse mappings, before Linux 6.7
    ended: bool = False  # it is as it was last read

    @property
    def change(self) -> int:
        return self.now - self.began

    @property
    def explained(self) -> int:
        """The sum of all causes."""
        gained = sum(-size if cause.takes else size for cause, size in self.by_cause.items())
        return gained + self.files

    @property
    def unexplained(self) -> int:
        """By how much the change exceeds what is explained."""
        return self.change - self.explained

    @property
    def copied(self) -> int | None:
        """Of what was replaced: at most what a probe saw copied. None: no probe."""
        if self.traced is None:
            return None
        return min(self.by_cause[Cause.REPLACED], self.traced[Cause.REPLACED])


@dataclass(slots=True)
class _State:
    """One process when it was last read."""

    account: Account
    image: _Image
    space: AddressSpace
    before: dict[Cause, int]  # that a probe had counted when it was first read


class Accounts:
    """Accounts of processes that are read again and again.

    A child that one of them forks begins with its parent's pages as they were last read, all of
    them shared; what executes another program begins anew, with nothing. Raises CowtraceError:
    frame numbers are hidden.
    """

    def __init__(self, proc: Path = _PROC) -> None:
        zero = zero_frame()
        if zero is None:
            raise _hidden("frame numbers in /proc/PID/pagemap are hidden")
        self._zero = zero
        self._proc = proc
        self._states: dict[tuple[int, int], _State] = {}  # by PID and start
        self._earlier: dict[tuple[int, int], AddressSpace] = {}  # before this reading
        self._counted: Snapshot | None = None
        self._began: int | None = None  # ticks since boot; None: nothing was read yet
        self.seconds = 0.0  # that the last reading took

    @property
    def accounts(self) -> list[Account]:
        """In the order in which they were first read."""
        return [state.account for state in self._states.values()]

    def read(self, choose: Callable[[], Iterable[int]]) -> None:
        """Read the processes that are chosen, and those that they fork meanwhile.

        Those of the first time have existed; later ones may be new. Raises CowtraceError: one of
        them is another user's.
        """
        began = time.monotonic()
        first = self._began is None
        if first:
            self._began = int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)
        same: dict[bytes, bytes] = {}
        tried: set[int] = set()
        alive = set()
        self._earlier = {key: state.space for key, state in self._states.items()}
        while new := sorted({*choose()} - tried):
            tried.update(new)
            for pid in new:
                try:
                    alive.add(self._read(pid, same, first))
                except Gone:
                    continue
                except PermissionError:
                    raise _hidden(f"the mappings of process {pid} are hidden") from None
            first = False
        for identity, state in self._states.items():
            state.account.ended = identity not in alive
        self._earlier = {}
        self.seconds = time.monotonic() - began

    def count(self, now: Snapshot) -> None:
        """Add what a probe has counted: once before each process is first read, and after."""
        for (pid, start), state in self._states.items():
            found = now.process(pid)
            if found and found.start_ns and found.start_ns * _TICKS // 10**9 != start:
                found = None  # the PID's earlier or next process
            state.account.traced = {
                cause: size - state.before[cause] for cause, size in _traced(found).items()
            }
        self._counted = now

    def _read(self, pid: int, same: dict[bytes, bytes], first: bool) -> tuple[int, int]:
        """Its PID and its start."""
        start, parent, image = _stat(pid, self._proc)
        space, sizes, moved = self._at_rest(pid)
        # Processes that fork share most of their chunks.
        space.chunks = {at: same.setdefault(words, words) for at, words in space.chunks.items()}
        state = self._states.get((pid, start))
        if state is None:
            opening = None if first or start < (self._began or 0) else self._opening(parent, image)
            began = sizes.private if opening is None else 0
            account = Account(pid, "", began, sizes.private, moved)
            counted = self._counted.process(pid) if self._counted and opening is None else None
            state = _State(account, image, space if opening is None else opening, _traced(counted))
            self._states[pid, start] = state
        elif state.image != image:
            _add(state, _EMPTY)
            state.image = image
        _add(state, space)
        account = state.account
        account.name = processes.name(pid) or account.name
        account.now, account.anonymous, account.swap = sizes.private, sizes.anonymous, sizes.swap
        account.moved, account.unread = moved, space.unread
        return pid, start

    def _at_rest(self, pid: int) -> tuple[AddressSpace, Rollup, int]:
        """Its pages, their sums, and by how many bytes these changed meanwhile."""
        sizes = rollup(pid, self._proc)
        for _ in range(_TRIES):
            before = sizes
            space = entries.read(pid, self._zero, {}, self._proc)
            sizes = rollup(pid, self._proc)
            if sizes.private == before.private:
                break
        return space, sizes, abs(sizes.private - before.private)

    def _opening(self, parent: int, image: _Image) -> AddressSpace | None:
        """What a new process began with; None: unknown."""
        # Its parent, or one of the same family if that has ended: they have the same addresses.
        family = [key for key in self._earlier if self._states[key].image == image]
        if family:
            key = [*family, *(key for key in family if key[0] == parent)][-1]
            return after_fork(self._earlier[key], self._states[key].space)
        try:
            is_forked = _stat(parent, self._proc)[2] == image
        except Gone:
            return None
        return None if is_forked else _EMPTY


def _add(state: _State, now: AddressSpace) -> None:
    """Add what changed since a process was last read."""
    found = changes(state.space, now)
    state.account.by_cause.update({cause: PAGE_BYTES * pages for cause, pages in found.items()})
    state.account.files += PAGE_BYTES * (now.files_alone - state.space.files_alone)
    state.space = now


def _traced(process: Process | None) -> dict[Cause, int]:
    """Bytes since attach."""
    found = dict.fromkeys(TRACED.values(), 0)
    for row in process.rows if process else ():
        if row.kind in TRACED:
            found[TRACED[row.kind]] += row.bytes
    return found


def _stat(pid: int, proc: Path) -> tuple[int, int, _Image]:
    """Start in ticks since boot, parent, image. Raises Gone."""
    try:
        text = (proc / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        raise Gone from None
    # The name is in parentheses and can hold any byte: fields count from the last one, the third.
    fields = text.rpartition(b")")[2].split()
    return int(fields[19]), int(fields[1]), (fields[23], fields[25], fields[45])


def _hidden(problem: str) -> CowtraceError:
    hint = "run as root: it takes CAP_SYS_ADMIN and CAP_SYS_PTRACE"
    return CowtraceError(problem, hint=hint, exit_code=EXIT_NO_PLAN)
