"""Play the acts of the demo; collect the traced faults and the reports of the processes."""

from __future__ import annotations

import enum
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from cowtrace import child
from cowtrace.demo.forked_processes import Answer
from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.model import COPIES, FaultKind, Snapshot
from cowtrace.workloads.outcome import Counts
from cowtrace.workloads.region import PAGE_BYTES, Backing
from cowtrace.workloads.workload import available_bytes

LEAST_PAGES = 20
_FRAMES_A_PAGE = 3  # a page, its copy, and the shared and read-only parts

# What an act can do to pages; faults of other kinds are not counted.
KINDS = (FaultKind.COPIED, FaultKind.ZERO_FILLED, FaultKind.REUSED, FaultKind.SHARED)


class Act(enum.Enum):
    """The acts: the name of each in forked_processes.Parent, and whether memory is shared."""

    FILL = ("fill", False)
    READ_THEN_WRITE = ("read-then-write", False)
    FORK = ("fork", False)
    CHILD_WRITES_HALF = ("child-writes-half", False)
    PARENT_WRITES_SAME_HALF = ("parent-writes-same-half", False)
    PARENT_WRITES_OTHER_HALF = ("parent-writes-other-half", False)
    SHARED_FILL = ("fill", True)
    SHARED_FORK = ("fork", True)
    SHARED_CHILD_WRITES = ("child-writes-all", True)

    def __init__(self, command: str, on_shared: bool) -> None:
        self.command = command
        self.on_shared = on_shared


@dataclass(frozen=True, slots=True)
class Played:
    """An act, what its process reported, and what was traced meanwhile."""

    act: Act
    answer: Answer
    traced: dict[FaultKind, int | None]  # by parent and child in this act; None: unseen
    page_bytes: int

    @property
    def disagreements(self) -> tuple[tuple[FaultKind, int, int], ...]:
        """Kinds for which trace and pagemap differ: (kind, traced, pagemap)."""
        noted = self.answer.pagemap
        both = ((kind, self.traced[kind], noted.of(kind) if noted else None) for kind in KINDS)
        return tuple(
            (kind, traced, seen)
            for kind, traced, seen in both
            if traced is not None and seen is not None and traced != seen
        )


class Stage:
    """Plays acts with real processes while a tracer counts. A context manager.

    Starts all of them at once: they need privileges that the tracer's process then gives up.
    """

    def __init__(self, snapshot: Callable[[], Snapshot], pages: int) -> None:
        check_pages(pages)
        self._snapshot = snapshot
        self._pages = pages
        self._players: dict[bool, subprocess.Popen[str]] = {}  # by whether they share memory
        self.pids: set[int] = set()  # of all processes of the demo so far

    def __enter__(self) -> Stage:
        for on_shared in (False, True):
            self._players[on_shared] = self._start_player(on_shared)
        return self

    def __exit__(self, *_: object) -> None:
        for on_shared in tuple(self._players):
            self._end_player(on_shared)

    def play(self, act: Act) -> Played:
        """Play one act to its end. Raises CowtraceError if a process of the demo fails."""
        if act.on_shared:
            self._end_player(False)
        player = self._players[act.on_shared]
        self.pids.add(player.pid)
        before = self._counts()
        answer = _ask(player, act)
        self.pids.add(answer.pid)
        now = self._counts()
        traced = {
            kind: None if count is None else count - (before[kind] or 0)
            for kind, count in now.items()
        }
        return Played(act, answer, traced, PAGE_BYTES)

    def _start_player(self, on_shared: bool) -> subprocess.Popen[str]:
        backing, pages, untouched = Backing.ANONYMOUS, self._pages, self._pages // 4
        if on_shared:
            backing, pages, untouched = Backing.SHARED_ANONYMOUS, self._pages // 10, 0
        settings = backing.value, str(pages), str(untouched)
        return subprocess.Popen(
            child.command("cowtrace.demo.forked_processes", *settings),
            env=child.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def _end_player(self, on_shared: bool) -> None:
        if player := self._players.pop(on_shared, None):
            player.communicate()  # it ends when its stdin ends

    def _counts(self) -> dict[FaultKind, int | None]:
        """Sums over the processes of the demo; copies of file pages count as copies."""
        now = self._snapshot()
        mine = [process for process in now.processes if process.pid in self.pids]
        counts: dict[FaultKind, int | None] = {}
        for kind in KINDS:
            kinds = COPIES if kind is FaultKind.COPIED else (kind,)
            seen = not now.unseen.issuperset(kinds)
            counts[kind] = sum(process.count(*kinds) or 0 for process in mine) if seen else None
        return counts


def _ask(player: subprocess.Popen[str], act: Act) -> Answer:
    assert player.stdin
    assert player.stdout
    try:
        player.stdin.write(f"{act.command}\n")
        fields = json.loads(player.stdout.readline())
    except (BrokenPipeError, ValueError):  # it ended without an answer
        _, complaint = player.communicate()
        lines = complaint.splitlines() or [f"exit code {player.returncode}"]
        if len(lines) == 2:  # a CowtraceError of its own
            raise CowtraceError(lines[0], hint=lines[1]) from None
        raise CowtraceError(
            f"a process of the demo failed: {lines[-1]}",
            hint="if memory is short, take fewer pages: --pages",
        ) from None
    noted = fields["pagemap"]
    return Answer(**{**fields, "pagemap": noted and Counts(**noted)})


def check_pages(pages: int) -> None:
    """Raise CowtraceError if there are too few pages to show anything, or too many for memory."""
    if pages < LEAST_PAGES:
        raise CowtraceError(
            f"--pages is {pages}, but the demo needs at least {LEAST_PAGES}",
            hint="omit --pages for the default",
            exit_code=EXIT_USAGE,
        )
    room = available_bytes() // (_FRAMES_A_PAGE * PAGE_BYTES)
    if pages > room:
        raise CowtraceError(
            f"{pages} pages are more than memory holds for the demo", hint=f"at most --pages {room}"
        )
