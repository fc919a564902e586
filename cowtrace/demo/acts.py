"""Play the acts of the demo in order; collect what was traced and what the processes saw."""

from __future__ import annotations

import enum
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cowtrace
from cowtrace.demo.forked_processes import Answer
from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.model import COPIES, FaultKind, Snapshot
from cowtrace.workloads import Backing, Counts
from cowtrace.workloads.region import PAGE_BYTES
from cowtrace.workloads.workload import available_bytes

LEAST_PAGES = 20
_FRAMES_A_PAGE = 3  # a page, its copy, and the shared and read-only parts

# What an act can do to pages; faults of other kinds are not counted.
KINDS = (FaultKind.COPIED, FaultKind.ZERO_FILLED, FaultKind.REUSED, FaultKind.SHARED)


class Act(enum.Enum):
    """The acts; a value is the command line for the player, and whether memory is shared."""

    FILL = ("fill", False)
    READ_THEN_WRITE = ("read-then-write", False)
    FORK = ("fork", False)
    CHILD_WRITES_HALF = ("child-writes-half", False)
    PARENT_WRITES_SAME_HALF = ("parent-writes-same-half", False)
    PARENT_WRITES_OTHER_HALF = ("parent-writes-other-half", False)
    SHARED_FILL = ("fill", True)
    SHARED_FORK = ("fork", True)
    SHARED_CHILD_WRITES = ("child-writes-all", True)

    def __init__(self, line: str, on_shared: bool) -> None:
        self.line = line
        self.on_shared = on_shared


@dataclass(frozen=True, slots=True)
class Played:
    """One act that was played."""

    act: Act
    answer: Answer
    traced: dict[FaultKind, int | None]  # by parent and child in this act; None: unseen
    page_bytes: int

    @property
    def disagreements(self) -> tuple[tuple[FaultKind, int, int], ...]:
        """Kinds for which trace and pagemap differ: (kind, traced, pagemap)."""
        noted = self.answer.pagemap
        if noted is None:
            return ()
        both = ((kind, self.traced[kind], noted.of(kind)) for kind in KINDS)
        return tuple(
            (kind, traced, seen)
            for kind, traced, seen in both
            if traced is not None and seen is not None and traced != seen
        )


class Stage:
    """Plays acts with real processes while a tracer counts. A context manager."""

    def __init__(self, snapshot: Callable[[], Snapshot], pages: int) -> None:
        check_pages(pages)
        self._snapshot = snapshot
        self._pages = pages
        self._player: subprocess.Popen[str] | None = None
        self._on_shared: bool | None = None
        self._before: dict[FaultKind, int | None] = {}
        self.pids: set[int] = set()  # of all that played so far

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._dismiss()

    def play(self, act: Act) -> Played:
        """Play one act to its end. Raises CowtraceError if a process of the demo fails."""
        if self._on_shared is not act.on_shared:
            self._dismiss()
            self._cast(act.on_shared)
        before = self._counts()
        answer = self._ask(act)
        self.pids.add(answer.pid)
        after = self._counts()
        traced = {kind: _difference(after[kind], before[kind]) for kind in KINDS}
        return Played(act, answer, traced, PAGE_BYTES)

    def _cast(self, on_shared: bool) -> None:
        backing, pages, untouched = Backing.ANONYMOUS, self._pages, self._pages // 4
        if on_shared:
            backing, pages, untouched = Backing.SHARED_ANONYMOUS, self._pages // 10, 0
        package = str(Path(cowtrace.__path__[0]).parent)
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
        self._player = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "cowtrace.demo.forked_processes",
                backing.value,
                str(pages),
                str(untouched),
            ],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._on_shared = on_shared
        self.pids.add(self._player.pid)

    def _ask(self, act: Act) -> Answer:
        assert self._player
        assert self._player.stdin
        assert self._player.stdout
        try:
            self._player.stdin.write(f"{act.line}\n")
            fields = json.loads(self._player.stdout.readline())
        except (BrokenPipeError, ValueError):  # it ended without an answer
            raise self._failure() from None
        noted = fields["pagemap"]
        return Answer(**{**fields, "pagemap": noted and Counts(**noted)})

    def _failure(self) -> CowtraceError:
        assert self._player
        _, complaint = self._player.communicate()
        lines = complaint.splitlines() or [f"exit code {self._player.returncode}"]
        if len(lines) == 2:  # a CowtraceError of its own
            return CowtraceError(lines[0], hint=lines[1])
        return CowtraceError(
            f"a process of the demo failed: {lines[-1]}",
            hint="if memory is short, take fewer pages: --pages",
        )

    def _dismiss(self) -> None:
        if self._player:
            self._player.communicate()  # it ends when its stdin ends
            self._player = None

    def _counts(self) -> dict[FaultKind, int | None]:
        """Sums over the processes of the demo; copies of file pages count as copies."""
        now = self._snapshot()
        mine = [process for process in now.processes if process.pid in self.pids]

        def of(kind: FaultKind) -> int | None:
            kinds = COPIES if kind is FaultKind.COPIED else (kind,)
            if now.unseen.issuperset(kinds):
                return None
            return sum(process.count(*kinds) or 0 for process in mine)

        return {kind: of(kind) for kind in KINDS}


def check_pages(pages: int) -> None:
    """Raise CowtraceError if there are too few pages to show anything, or too many for memory."""
    if pages < LEAST_PAGES:
        raise CowtraceError(
            f"--pages is {pages}, but the story needs at least {LEAST_PAGES}",
            hint="the default shows it well",
            exit_code=EXIT_USAGE,
        )
    room = available_bytes() // (_FRAMES_A_PAGE * PAGE_BYTES)
    if pages > room:
        raise CowtraceError(
            f"{pages} pages are more than memory holds for this story",
            hint=f"at most --pages {room}",
        )


def _difference(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else now - before
