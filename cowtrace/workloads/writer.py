"""Act as one process of a workload: write the region, and note what frame numbers show."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Concatenate, ParamSpec

from cowtrace.workloads import pagemap
from cowtrace.workloads.oracles.writes import Writes
from cowtrace.workloads.outcome import Counts, Evidence, Expected, Observed, compared, of_thread
from cowtrace.workloads.region import Backing, Region, touch_scratch
from cowtrace.workloads.stepped_child import Child, run_victim

# What each process writes: all different, so that the data read shows whose page it is.
BEFORE, CHILD, PARENT, GRANDCHILD = 1, 2, 3, 4

P = ParamSpec("P")


class Writer:
    """This process in its role. Each action is complete when it returns."""

    def __init__(
        self, role: str, region: Region, zero_frame: int | None, expected: Mapping[str, Expected]
    ) -> None:
        self.role = role
        self.region = region
        self._zero_frame = zero_frame  # None: frame numbers are hidden, nothing is noted
        self._expected = expected  # by role
        self.evidence: list[Evidence] = []  # of the parent: of this path's own oracles
        self.findings: list[str] = []  # of the parent: what kernels do differently, in words
        self._noted = Counts()
        self._writes = Writes()
        self._data_right = True
        self._children: list[list[Observed]] = []  # a list for each child, filled at its end

    def populate(self, value: int) -> None:
        """Touch every page for the first time; do not compare or time that."""
        self.region.store(value)
        touch_scratch()

    def write(self, value: int, *, whole: bool = False, protected: bool = True) -> None:
        """Write the first byte of every page, or all bytes. protected: see `act`."""
        self.act(
            lambda region: region.fill(value) if whole else region.store(value), protected=protected
        )

    def write_pages(self, value: int, pages: Sequence[int]) -> None:
        """Write the first byte of these pages, by number, and of no others."""
        self.act(lambda region: region.store_pages(value, pages), every_page=False)

    def act(
        self, write: Callable[[Region], object], *, every_page: bool = True, protected: bool = True
    ) -> None:
        """Write every page once by a function, which is first rehearsed in other memory.

        every_page=False: it may leave pages out, and a kept frame shows nothing.
        protected=False: pages may not be write-protected, and a kept frame may mean no fault.
        """
        with self._compared(written=every_page, protected=protected):
            self._writes.count(write, self.region)

    def read(self) -> None:
        """Read one byte of every page, which must change no frame."""
        with self._compared(written=False):
            self.region.load()

    def expect(self, value: int) -> None:
        """Read back: every page must begin with `value`. For pages that are already mapped."""
        self.expect_that(set(self.region.load()) == {value})

    def expect_pages(self, value: int, pages: Iterable[int], *, others: int = BEFORE) -> None:
        """Read back: these pages must begin with `value`, all others with `others`."""
        wanted = bytearray([others]) * self.region.pages
        for page in pages:
            wanted[page] = value
        self.expect_that(self.region.load() == wanted)

    def expect_that(self, right: bool) -> None:
        """Note whether data was as expected."""
        self._data_right = self._data_right and right

    @contextmanager
    def watch(self, *, every_page: bool = True, protected: bool = True) -> Iterator[None]:
        """Compare frames before and after the block, as `act` does, without a rehearsal."""
        with self._compared(written=every_page, protected=protected):
            yield
        self._writes.forget()

    def entries(self) -> pagemap.Entries | None:
        """Pagemap entries of the region's pages; None when frame numbers are hidden."""
        return None if self._zero_frame is None else pagemap.region_entries(self.region)

    def frames(self) -> list[int]:
        """Frame numbers of the region's pages: 0 where none is mapped; [] when they are hidden."""
        return [pagemap.frame(entry) for entry in self.entries() or ()]

    def frames_cannot_show(self, kind: str) -> None:
        """Frame numbers do not show the count of this kind (a field of Counts) in this path."""
        self._noted += Counts(**{kind: None})

    def note_changes(
        self, before: pagemap.Entries | None, *, written: bool = True, protected: bool = True
    ) -> None:
        """Note how the entries have changed: every page was written once since, or none was."""
        after = self.entries()
        if before is None or after is None or self._zero_frame is None:
            return
        backing, zero = self.region.backing, self._zero_frame
        if backing is Backing.HUGE:
            before = pagemap.huge_zero_as(zero, before)
        seen = pagemap.changes(before, after, backing=backing, zero=zero, written=written)
        if seen.reused and not protected:
            seen = dataclasses.replace(seen, reused=None)
        self._noted += seen

    def note(
        self, oracle: str, what: str, expected: int | str | None, observed: int | str | None
    ) -> None:
        """Evidence of one of this path's own oracles; it agrees when both values are equal."""
        self.evidence.append(compared(oracle, what, expected, observed))

    def note_frames(
        self, what: str, before: list[int], after: list[int], *, differ: bool = False
    ) -> None:
        """Evidence that two readings have the same frames, or that all of them differ."""
        if not before or not all(before):
            self.evidence.append(Evidence("pagemap", f"{what} hidden", None, None, None))
            return
        compare = int.__ne__ if differ else int.__eq__
        self.note("pagemap", what, len(before), sum(map(compare, before, after)))

    def faults_of_write(self, value: int) -> int | None:
        """Page faults while every page is written; None when others may be among them."""
        writes = Writes()
        writes.count(lambda region: region.store(value), self.region)
        return writes.page_faults

    def write_uncounted(self, value: int) -> int | None:
        """Write every page, where no kind of fault counts what this raises; return the page faults.

        None when others may be among them. taskstats and pgreuse are compared as after `write`;
        frame numbers are not.
        """
        self._writes.count(lambda region: region.store(value), self.region)
        faults, self._writes.page_faults = self._writes.page_faults, None
        return faults

    def note_of_thread(
        self, oracle: str, what: str, expected: int | None, observed: int | None
    ) -> None:
        """Evidence by a count of this whole thread, which may contain stray faults."""
        ok = of_thread(expected, observed)
        self.evidence.append(Evidence(oracle, what, expected, observed, ok))

    @contextmanager
    def fork(self, role: str = "child") -> Iterator[Child[Writer]]:
        """Fork a child that shares this process's pages and ends with the block.

        Raises CowtraceError when the child failed or was killed.
        """
        seen: list[Observed] = []
        self._children.append(seen)
        make = lambda: Writer(role, self.region, self._zero_frame, self._expected)  # noqa: E731
        with closing(Child(make)) as child:
            yield child
            seen.extend(child.do(Writer.observed))

    def child_writes(
        self, write: Callable[Concatenate[Writer, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Fork a child that writes CHILD by `write`; this process must keep its own data."""
        self.populate(BEFORE)
        with self.fork() as other:
            other.do(write, *args, **kwargs)
            other.do(Writer.expect, CHILD)
            self.expect(BEFORE)

    def victim_writes(self, before: Callable[[int], None] = lambda pid: None) -> int:
        """Fork a child that writes and is expected to be killed; return the signal, or 0.

        `before` is called with its PID just before it writes.
        """
        # No rehearsal: the child may not survive that.
        pid, killed_by = run_victim(lambda: self.region.store(CHILD), before)
        self.add_process("child", pid)
        return killed_by

    def add_process(self, role: str, pid: int) -> None:
        """Add a process to the outcome that cannot report what it observed."""
        self._children.append([Observed(role, pid, self._expected[role], None, 0, 0, True)])

    def observed(self) -> tuple[Observed, ...]:
        """This process and those that it forked, in order of creation."""
        own = Observed(
            role=self.role,
            pid=os.getpid(),
            expected=self._expected[self.role],
            pagemap=None if self._zero_frame is None else self._noted,
            write_ns=self._writes.spent_ns,
            written_pages=self._writes.pages,
            data_right=self._data_right,
            wp_copies=self._writes.wp_copies,
            page_faults=self._writes.page_faults,
            re_marks=self._writes.re_marks,
        )
        return (own, *itertools.chain(*self._children))

    @contextmanager
    def _compared(self, *, written: bool, protected: bool = True) -> Iterator[None]:
        before = self.entries()
        yield
        self.note_changes(before, written=written, protected=protected)
        touch_scratch()
