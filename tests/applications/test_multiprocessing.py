"""Python's multiprocessing: a child that only reads a big list copies it, by reference counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from applications import memory
from applications.application import PYTHON, Application, output, running, scratch
from applications.watched import OURS, Watched, fork_of, no_mapping, uncertain_bytes
from cowtrace import tracer
from cowtrace.model import DetailRow, FaultKind, MappingType, Snapshot, Stack
from cowtrace.workloads.region import PAGE_BYTES

pytestmark = [pytest.mark.host, pytest.mark.vm, pytest.mark.spread]

# Floats, for the small integers are few, and immortal since 3.12. What is asked of either process
# comes through files, so that the parent does nothing meanwhile.
SCRIPT = """
import mmap, multiprocessing, pathlib, time

def wait(name):
    while not pathlib.Path(name).exists():
        time.sleep(0.01)

def read(big):
    pathlib.Path("ready").touch()
    wait("go")
    total = 0.0
    for number in big:
        total += number
    pathlib.Path("done").touch()
    time.sleep(3600)

if __name__ == "__main__":
    big = [float(n) for n in range(300_007)]
    pages = len({id(number) // mmap.PAGESIZE for number in big})
    child = multiprocessing.get_context("fork").Process(target=read, args=(big,), daemon=True)
    child.start()
    wait("ready")
    pathlib.Path("pid.part").write_text(f"{child.pid} {pages}")
    pathlib.Path("pid.part").rename("pid")
    time.sleep(3600)
"""
# Beside the objects: the loop's own frame, Path.touch(), time.sleep().
INTERPRETER_PAGES = 64


@dataclass(frozen=True)
class Reader:
    """A child that is about to read, or has read, `pages` pages of objects."""

    app: Application
    pid: int
    pages: int

    def read(self) -> None:
        (self.app.folder / "go").touch()
        self.app.wait_until((self.app.folder / "done").exists, "the child did not read")


@contextmanager
def reader(*options: str) -> Iterator[Reader]:
    with scratch() as folder:
        (folder / "reader.py").write_text(SCRIPT)
        with running([PYTHON, *options, "reader.py"], folder) as app:
            file = folder / "pid"
            app.wait_until(file.exists, "no child")
            pid, pages = map(int, file.read_text().split())
            yield Reader(app, pid, pages)


def perf_option() -> tuple[str, ...]:
    """CPython reports the names of Python functions to profilers on request (since 3.12)."""
    version = output(PYTHON, "-c", "import sys; print(*sys.version_info[:2])").split()
    return ("-X", "perf") if tuple(map(int, version)) >= (3, 12) else ()


def test_multiprocessing_reference_counts_copy_what_is_read(watched: Watched) -> None:
    perf = perf_option()
    plan = next(iter(watched.tracers))
    with (
        tracer.attach(plan, details=frozenset({"stack"}), samples=True, only=OURS) as stacks,
        reader(*perf) as child,
    ):
        before, parted_before = watched.look(), memory.parted(child.pid, child.app.pid)
        child.read()
        after, parted_after = watched.look(), memory.parted(child.pid, child.app.pid)
        assert_code(stacks.snapshot(), child, named=bool(perf))
    for plan, snapshot in after.items():
        slack = INTERPRETER_PAGES * PAGE_BYTES + uncertain_bytes(snapshot)
        copied = copied_bytes(snapshot, child.pid) - copied_bytes(before[plan], child.pid)
        # The pages of the objects, counted by their addresses: an object's count is at its start.
        # A few had been copied before, for what else lies in them.
        assert copied <= child.pages * PAGE_BYTES + slack
        least = child.pages * PAGE_BYTES - uncertain_bytes(snapshot)
        assert copied_bytes(snapshot, child.pid) >= least
        # The pages that have come to be in another frame meanwhile.
        assert abs(copied - (parted_after - parted_before) * PAGE_BYTES) <= slack
        if not watched.supports(plan, "mapping"):
            assert no_mapping(snapshot)
            continue
        mapping = of_type(snapshot, child.pid, MappingType.ANON)  # where CPython has its arenas
        assert mapping >= least


def copied_bytes(snapshot: Snapshot, pid: int) -> int:
    process = snapshot.process(pid)
    assert process
    assert fork_of(snapshot, pid).child_copied_bytes == process.copied_bytes
    return process.copied_bytes


def of_type(snapshot: Snapshot, pid: int, mapping: MappingType) -> int:
    return sum(
        row.bytes
        for row in snapshot.details
        if row.pid == pid and row.mapping and row.mapping.type is mapping
    )


def assert_code(snapshot: Snapshot, child: Reader, *, named: bool) -> None:
    """Nearly all were made by Python's evaluation of the loop, and the stacks say so."""
    binary = Path(PYTHON).resolve().name
    exact = copies(snapshot.details, child.pid)
    module = sum(n for stack, n in exact.items() if stack and binary in stack[0].module)
    assert module >= 0.9 * child.pages
    # Unwound: the innermost function that has a name is the interpreter's loop. A list's iterator
    # is inside of it; Debian's Python keeps no name of that function.
    sampled = copies(snapshot.samples, child.pid)
    loop = sum(
        n
        for stack, n in sampled.items()
        if first_name(stack) in ("_PyEval_EvalFrameDefault", "PyIter_Next")
    )
    assert loop >= 0.8 * child.pages, snapshot.completeness
    if named:
        reading = sum(
            n
            for stack, n in sampled.items()
            if any(frame.symbol.startswith("py::read:") for frame in stack)
        )
        assert reading >= 0.8 * child.pages


def copies(rows: tuple[DetailRow, ...], pid: int) -> Counter[Stack]:
    """Copies of one process by their user stack."""
    found: Counter[Stack] = Counter()
    for row in rows:
        if row.pid == pid and row.kind is FaultKind.COPIED:
            found[row.user_stack or ()] += row.faults
    return found


def first_name(stack: Stack) -> str:
    """The innermost function that has a name; Python's own are no functions of C."""
    names = (f.symbol for f in stack if f.symbol != "[unknown]" and "py::" not in f.symbol)
    return next(names, "")
