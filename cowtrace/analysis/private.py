"""Add up where the private memory of processes came from, and where it went."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cowtrace import proc as processes
from cowtrace.frames import entries
from cowtrace.frames.changes import after_fork, changes
from cowtrace.frames.entries import AddressSpace, Gone, hidden
from cowtrace.frames.smaps import Rollup, rollup
from cowtrace.frames.words import PAGE_BYTES, zero_frame
from cowtrace.model import ENDED_PID, Account, Cause, FaultKind, Process, Snapshot
from cowtrace.model.private_memory import added

_PROC = Path("/proc")
_TRIES = 3  # to read a process while none of its private memory changes
_ROUNDS = 3  # of a reading; processes that fork without end wait for the next one
_SHARE = 10  # reading takes at most this part of the time
_MOST_ENDED = 512  # that keep an account
TRACED = {
    FaultKind.COPIED: Cause.REPLACED,
    FaultKind.FILE_COPIED: Cause.FROM_FILE,
    FaultKind.ZERO_FILLED: Cause.ZERO_FILLED,
}
_EMPTY = AddressSpace(0)
_TICKS = os.sysconf("SC_CLK_TCK")  # a second, of the start of a process
# Where its code, its stack and its arguments begin: another program has other addresses.
_Image = tuple[bytes, bytes, bytes]
_Identity = tuple[int, int]  # PID and start
Choose = Callable[[], Iterable[int]]


@dataclass(slots=True)
class _State:
    """One process when it was last read."""

    account: Account
    image: _Image
    space: AddressSpace
    before: Mapping[Cause, int]  # that a probe had counted when it was first read


class Accounts:
    """Accounts of processes that are read again and again.

    A child that one of them forks begins with its parent's pages as they were last read, all of
    them shared; what executes another program begins anew, with nothing. Of those that have ended,
    the ones that changed most keep an account, and one has the sum of the others. Raises
    CowtraceError: frame numbers are hidden.
    """

    def __init__(self, proc: Path = _PROC) -> None:
        zero = zero_frame()
        if zero is None:
            raise hidden("frame numbers in /proc/PID/pagemap are hidden")
        self._zero = zero
        self._proc = proc
        self._states: dict[_Identity, _State] = {}
        self._earlier: dict[_Identity, AddressSpace] = {}  # before this reading
        self._sum: Account | None = None  # of ended ones without an account
        self._counted: dict[int, Process] = {}
        self._began: int | None = None  # ticks since boot; None: nothing was read yet
        self._due = 0.0
        self.seconds = 0.0  # that the last reading took

    @property
    def accounts(self) -> tuple[Account, ...]:
        """In the order in which they were first read."""
        found = (state.account for state in self._states.values())
        return (*found, self._sum) if self._sum else tuple(found)

    def look(self, choose: Choose) -> bool:
        """Read, unless that would take more than a tenth of the time. Whether they were read."""
        if time.monotonic() < self._due:
            return False
        self.read(choose)
        self._due = time.monotonic() + (_SHARE - 1) * self.seconds
        return True

    def read(self, choose: Choose) -> None:
        """Read the processes that are chosen, and most that they fork meanwhile.

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
        living = (each for each in self._states.items() if not each[1].account.ended)
        self._earlier = {identity: state.space for identity, state in living}
        for _ in range(_ROUNDS):
            new = {*choose()} - tried
            if not new:
                break
            tried |= new
            for pid in sorted(new):
                try:
                    alive.add(self._read(pid, same, first))
                except Gone:
                    continue
                except PermissionError:
                    raise hidden(f"the mappings of process {pid} are hidden") from None
            first = False
        self._end(alive)
        self._earlier = {}
        self.seconds = time.monotonic() - began

    def count(self, now: Snapshot) -> None:
        """Add what a probe has counted: once before each process is first read, and after."""
        self._counted = {process.pid: process for process in now.processes}  # the newest
        for (pid, start), state in self._states.items():
            found = self._counted_of(pid, start)
            if state.account.traced and not found:  # the tracer has forgotten it
                continue
            counted = _traced(found)
            traced = {cause: max(0, size - state.before[cause]) for cause, size in counted.items()}
            state.account = replace(state.account, traced=traced)

    def _counted_of(self, pid: int, start: int) -> Process | None:
        """None also for the PID's earlier or next process."""
        found = self._counted.get(pid)
        if found and found.start_ns and found.start_ns * _TICKS // 10**9 != start:
            return None
        return found

    def snapshot(
        self, choose: Choose, take: Callable[[], Snapshot], *, last: bool = False
    ) -> Snapshot:
        """Look, then take a snapshot, and add the accounts to it. `last`: read in any case."""
        if last:
            self.read(choose)
        else:
            self.look(choose)
        now = take()
        self.count(now)
        return replace(now, accounts=self.accounts)

    def _read(self, pid: int, same: dict[bytes, bytes], first: bool) -> _Identity:
        start, parent, image = _stat(pid, self._proc)
        space, sizes, moved = self._at_rest(pid)
        # Processes that fork share most of their chunks.
        space.chunks = {at: same.setdefault(words, words) for at, words in space.chunks.items()}
        state = self._states.get((pid, start))
        if state is None:
            opening = None if first or start < (self._began or 0) else self._opening(parent, image)
            began = sizes.private if opening is None else 0
            account = Account(pid, began=began)
            counted = self._counted_of(pid, start) if opening is None else None
            state = _State(account, image, space if opening is None else opening, _traced(counted))
            self._states[pid, start] = state
        elif state.image != image:
            _add(state, _EMPTY)
            state.image = image
        _add(state, space)
        state.account = replace(
            state.account,
            comm=processes.name(pid) or state.account.comm, ended=False,
            now=sizes.private, anonymous=sizes.anonymous, swap=sizes.swap,
            moved=moved, unread=space.unread,
        )  # fmt: skip
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

    def _end(self, alive: Collection[_Identity]) -> None:
        """Mark those that have ended; forget what only living ones need. One that lives, and is
        not chosen now or executes another program, stays as it was last read.
        """
        ended = [
            identity
            for identity, state in self._states.items()
            if identity not in alive and (state.account.ended or not self._lives(*identity))
        ]
        for identity in ended:
            state = self._states[identity]
            state.account, state.space = replace(state.account, ended=True), _EMPTY
        ended.sort(key=lambda identity: -abs(self._states[identity].account.change))
        for identity in ended[_MOST_ENDED:]:
            account = self._states.pop(identity).account
            self._sum = added(self._sum, account) if self._sum else replace(account, pid=ENDED_PID)

    def _lives(self, pid: int, start: int) -> bool:
        try:
            now = _stat(pid, self._proc)[0]
        except Gone:
            return False
        return now == start and processes.has_memory(pid, self._proc)


def _add(state: _State, now: AddressSpace) -> None:
    """Add what changed since a process was last read."""
    by_cause = dict(state.account.by_cause)
    for cause, pages in changes(state.space, now).items():
        by_cause[cause] = by_cause.get(cause, 0) + PAGE_BYTES * pages
    files = PAGE_BYTES * (now.files_alone - state.space.files_alone)
    state.account = replace(state.account, by_cause=by_cause, files=state.account.files + files)
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
        fields = processes.stat(pid, proc)
    except (FileNotFoundError, ProcessLookupError):
        raise Gone from None
    return int(fields[19]), int(fields[1]), (fields[23], fields[25], fields[45])
