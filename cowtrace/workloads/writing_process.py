"""One process of a workload: it writes the region, and notes what frame numbers say of it."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from cowtrace.workloads import pagemap
from cowtrace.workloads.counts import Counts, Evidence, Expected, Observed, of_thread
from cowtrace.workloads.oracles.writes import Writes
from cowtrace.workloads.region import Backing, Region, touch_scratch
from cowtrace.workloads.stepped_child import Child, Victim


class Actor:
    """This process in its role. Each action is complete when it returns."""

    def __init__(
        self, role: str, region: Region, zero_frame: int | None, foretold: Mapping[str, Expected]
    ) -> None:
        self.role = role
        self.region = region
        self._zero_frame = zero_frame  # None: frames are hidden, nothing is noted
        self._foretold = foretold  # by role
        self.evidence: list[Evidence] = []  # of the parent: what this path's own oracles said
        self._noted = Counts()
        self._marked: pagemap.Entries | None = None
        self._writes = Writes()
        self._data_right = True
        self._offspring: list[list[Observed]] = []  # a list for each child, filled at its end

    def populate(self, value: int) -> None:
        """Touch every page for the first time: neither compared nor timed."""
        self.region.store(value)
        touch_scratch()

    def write(self, value: int) -> None:
        """Write one byte of every page."""
        self.act(lambda region: region.store(value))

    def write_whole(self, value: int) -> None:
        """Write all bytes of every page."""
        self.act(lambda region: region.fill(value))

    def write_unprotected(self, value: int) -> None:
        """Write one byte of every page; those that keep their frame may not have faulted."""
        self.act(lambda region: region.store(value), protected=False)

    def act(
        self, write: Callable[[Region], None], *, every_page: bool = True, protected: bool = True
    ) -> None:
        """Write every page once, by a function that is also rehearsed in other memory.

        Without every_page it may leave pages out, whose frames then say nothing. Pages that are
        not surely write-protected may keep their frame without a fault.
        """
        with self._compared(written=every_page, protected=protected):
            self._writes.count(write, self.region)

    def read(self) -> None:
        """Read one byte of every page: no frame may change by that."""
        with self._compared(written=False):
            self.region.load()

    def expect(self, value: int) -> None:
        """Read back: every page must begin with `value`. For pages that are mapped by now."""
        self.expect_that(set(self.region.load()) == {value})

    def expect_that(self, right: bool) -> None:
        """Note that data was as it had to be, or that it was not."""
        self._data_right = self._data_right and right

    @contextmanager
    def watch(self, *, every_page: bool = True, protected: bool = True) -> Iterator[None]:
        """Compare frames before and after the block, as `act` does, without a rehearsal."""
        with self._compared(written=every_page, protected=protected):
            yield
        self._writes.forget()

    def mark(self) -> None:
        """Remember the frames, for another process is about to write them."""
        self._marked = self._entries()

    def compare_with_mark(self) -> None:
        """Compare frames with those at `mark`: every page was written once by somebody."""
        self._note(self._marked, self._entries(), written=True, protected=True)

    def frames(self) -> list[int]:
        """Frame numbers of the region's pages: 0 for those that are hidden or not there."""
        return [pagemap.frame(entry) for entry in self._entries() or ()]

    def cannot_tell(self, /, **kinds: None) -> None:
        """Of these kinds, frame numbers do not tell the count in this path."""
        self._noted += Counts(**kinds)

    def note(
        self, oracle: str, what: str, expected: int | str | None, observed: int | str | None
    ) -> None:
        """Evidence of one of this path's own oracles; it agrees when both are equal."""
        known = expected is not None and observed is not None
        ok = expected == observed if known else None
        self.evidence.append(Evidence(oracle, what, expected, observed, ok))

    def note_of_thread(
        self, oracle: str, what: str, expected: int | None, observed: int | None
    ) -> None:
        """Evidence by a count of this whole thread, which may hold a stray fault more."""
        ok = of_thread(expected, observed)
        self.evidence.append(Evidence(oracle, what, expected, observed, ok))

    @contextmanager
    def fork(self, role: str = "child") -> Iterator[Child[Actor]]:
        """A child that shares this process's pages and has acted nothing yet; ends with the block.

        Raises CowtraceError when it failed or was killed.
        """
        born: list[Observed] = []
        self._offspring.append(born)
        child = Child(lambda: Actor(role, self.region, self._zero_frame, self._foretold))
        try:
            yield child
            born.extend(child.do(Actor.observed))
        finally:
            child.end()

    def victim(self, write: Callable[[Region], None], before: Callable[[int], None]) -> int:
        """Fork a child that writes, which is expected to kill it; its end as a signal or 0.

        `before` gets its pid when it is about to write.
        """
        victim = Victim(lambda: write(self.region))  # no rehearsal: it may not survive that
        self.stranger("child", victim.pid)
        before(victim.pid)
        return victim.go()

    def stranger(self, role: str, pid: int) -> None:
        """Have a process in the outcome that could not say itself what it saw."""
        seen = Observed(role, pid, self._foretold[role], None, 0, 0, True, None, None)
        self._offspring.append([seen])

    def observed(self) -> tuple[Observed, ...]:
        """This process and those that it forked, in order of birth."""
        own = Observed(
            role=self.role,
            pid=os.getpid(),
            expected=self._foretold[self.role],
            pagemap=None if self._zero_frame is None else self._noted,
            write_ns=self._writes.spent_ns,
            written_pages=self._writes.pages,
            data_right=self._data_right,
            wp_copies=self._writes.wp_copies,
            page_faults=self._writes.page_faults,
        )
        return (own, *itertools.chain(*self._offspring))

    @contextmanager
    def _compared(self, *, written: bool, protected: bool = True) -> Iterator[None]:
        before = self._entries()
        yield
        self._note(before, self._entries(), written=written, protected=protected)
        touch_scratch()

    def _note(
        self,
        before: pagemap.Entries | None,
        after: pagemap.Entries | None,
        *,
        written: bool,
        protected: bool,
    ) -> None:
        if before is None or after is None or self._zero_frame is None:
            return
        backing, zero = self.region.backing, self._zero_frame
        if backing is Backing.HUGE:
            before = pagemap.huge_zero_as(zero, before)
        seen = pagemap.changes(before, after, backing=backing, zero=zero, written=written)
        if seen.reused and not protected:
            seen = dataclasses.replace(seen, reused=None)
        self._noted += seen

    def _entries(self) -> pagemap.Entries | None:
        if self._zero_frame is None:
            return None
        return pagemap.region_entries(self.region)
