"""Map a snapshot file privately, as firecracker and criu do: count the pages that diverge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from applications import memory
from applications.application import PYTHON, Application, running, scratch
from applications.watched import Watched, no_mapping
from cowtrace import tracer
from cowtrace.model import COPIES, Event, FaultKind, MappingType, Snapshot, Source
from cowtrace.tracer.filter import Filter
from cowtrace.workloads.region import PAGE_BYTES

pytestmark = [pytest.mark.host, pytest.mark.vm, pytest.mark.spread]

# Primes: a page that is counted twice, or missed, shows.
PAGES = 4_099
WRITTEN = 1_009
STRIDE = 3  # written ones are not neighbours
# Reading a page maps its neighbours in the page cache as well (fault-around): which pages are
# mapped when they are written, pagemap says.
SCRIPT = f"""
import mmap, pathlib, time

def wait(name):
    while not pathlib.Path(name).exists():
        time.sleep(0.01)

file = open("memory.snapshot", "rb")
prot = mmap.PROT_READ | mmap.PROT_WRITE
guest = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=prot)
for page in range({PAGES // 2}):
    guest[page * {PAGE_BYTES}]
pathlib.Path("ready").touch()
wait("go")
for page in range(0, {WRITTEN * STRIDE}, {STRIDE}):
    guest[page * {PAGE_BYTES}] = 1
pathlib.Path("done").touch()
time.sleep(3600)
"""
EXPECTED = set(range(0, WRITTEN * STRIDE, STRIDE))


@dataclass(frozen=True)
class Restored:
    """A process that has its memory from a file, and the first address of it."""

    app: Application
    start: int

    def frames(self) -> list[int | None]:
        return list(memory.frames(self.app.pid, self.start, self.start + PAGES * PAGE_BYTES))

    def diverged(self) -> set[int]:
        """Pages that are the file's no more, as pagemap says."""
        end = self.start + PAGES * PAGE_BYTES
        return set(memory.anonymous(self.app.pid, self.start, end))

    def write(self) -> None:
        (self.app.folder / "go").touch()
        self.app.wait_until((self.app.folder / "done").exists, "it did not write")


@contextmanager
def restored() -> Iterator[Restored]:
    with scratch() as folder:
        (folder / "restore.py").write_text(SCRIPT)
        with (folder / "memory.snapshot").open("wb") as snapshot:
            for page in range(PAGES):
                snapshot.write(page.to_bytes(8, "little") * (PAGE_BYTES // 8))
        with running([PYTHON, "restore.py"], folder) as app:
            app.wait_until((folder / "ready").exists, "nothing restored")
            yield Restored(app, memory.mapped(app.pid, folder / "memory.snapshot"))


def test_snapshot_pages_diverge(watched: Watched) -> None:
    with restored() as guest:
        mapped = {page for page, frame in enumerate(guest.frames()) if frame is not None}
        path = str(guest.app.folder / "memory.snapshot")
        assert guest.diverged() == set()
        guest.write()
        seen = watched.look()
        assert guest.diverged() == EXPECTED
    assert 0 < len(EXPECTED & mapped) < WRITTEN  # both kinds are there
    expected = {
        FaultKind.COPIED: len(EXPECTED & mapped),
        FaultKind.FILE_COPIED: len(EXPECTED - mapped),
    }
    for plan, snapshot in seen.items():
        if watched.supports(plan, "mapping"):
            assert_diverged(snapshot, guest, path, expected)
        else:
            assert no_mapping(snapshot)


def assert_diverged(
    snapshot: Snapshot, guest: Restored, path: str, expected: dict[FaultKind, int]
) -> None:
    """The very pages, in the mapping of that file."""
    rows = [
        row
        for row in snapshot.details
        if row.pid == guest.app.pid
        and row.mapping
        and row.mapping.start == guest.start
        and row.kind in COPIES
    ]
    for kind in COPIES:
        counted = sum(row.faults for row in rows if row.kind is kind)
        assert abs(counted - expected[kind]) <= snapshot.completeness.lost
    for row in rows:
        assert row.bytes == row.faults * PAGE_BYTES
        assert row.mapping
        assert row.mapping.type is MappingType.FILE
        assert row.mapping.name == path
        assert row.mapping.end - row.mapping.start == PAGES * PAGE_BYTES
        if snapshot.plan != "tracepoint" or row.kind is FaultKind.FILE_COPIED:
            assert row.source is Source.FILE


def test_snapshot_single_faults_name_the_pages_that_diverge(watched: Watched) -> None:
    with restored() as guest:
        only = Filter(pids=(guest.app.pid,))
        plan = next(iter(watched.tracers))
        with tracer.attach(plan, events=True, only=only) as live:
            guest.write()
            events = list(live.events(0.5))
            while more := list(live.events(0.1)):
                events += more
            lost = live.snapshot().completeness.lost
        assert guest.diverged() == EXPECTED
    pages = diverging(events, guest.start)
    assert len(pages) == len(set(pages))  # each page once
    assert set(pages) <= EXPECTED
    assert len(EXPECTED) - len(pages) <= lost


def diverging(events: list[Event], start: int) -> list[int]:
    """Numbers of the pages that were copied, in the order of time."""
    return [
        (event.address - start) // PAGE_BYTES
        for event in events
        if event.kind in COPIES and 0 <= event.address - start < PAGES * PAGE_BYTES
    ]
