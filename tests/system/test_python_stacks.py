"""Stacks of copies have frames of Python, in their places between those of C."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from pythons import every_python
from workload_checks import plans

from cowtrace import tracer
from cowtrace.model import Phase, Snapshot, Stack
from cowtrace.tracer.filter import Filter

pytestmark = [pytest.mark.host, pytest.mark.vm, pytest.mark.usefixtures("can_trace")]

# Its text: an interpreter of another root folder does not have the file.
SCRIPT = Path(__file__).with_name("cpython_calls.py").read_text()
PAGE_BYTES = os.sysconf("SC_PAGESIZE")
PLANS = ("auto",) if "COWTRACE_VM" not in os.environ else plans()
INLINES_CALLS = 11  # since that version, a call of Python from Python has no frames of C
Places = tuple[tuple[str, int | None], ...]  # function, line


def python_frames(stack: Stack) -> Places:
    return tuple((f.symbol, f.line) for f in stack if f.symbol.startswith(("py::", "[python]")))


def copies(found: Snapshot) -> tuple[Counter[Places], dict[Places, Stack], Counter[Phase | None]]:
    pages: Counter[Places] = Counter()
    stacks: dict[Places, Stack] = {}
    phases: Counter[Phase | None] = Counter()
    for row in found.samples:
        assert row.user_stack
        assert row.written
        frames = python_frames(row.user_stack)
        pages[frames] += row.faults
        stacks[frames] = row.user_stack
        phases[row.written.phase] += row.faults
    return pages, stacks, phases


def native_between(stack: Stack) -> dict[tuple[str, str], int]:
    """How many frames of C lie between two of Python, by their functions."""
    python = [(i, f.symbol.split(":")[2]) for i, f in enumerate(stack) if f.symbol[:4] == "py::"]
    return {(one, other): outer - inner - 1 for (inner, one), (outer, other) in pairwise(python)}


@pytest.mark.parametrize("plan", PLANS)
@every_python
def test_copies_are_those_of_the_functions_that_write(python: str, plan: str) -> None:
    """Each way writes fewer pages than samples of a round are taken of all."""
    with subprocess.Popen(
        [python, "-I", "-S", "-c", SCRIPT, str(PAGE_BYTES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as caller:
        assert caller.stdin
        assert caller.stdout
        try:
            minor, start, size = map(int, caller.stdout.readline().split())
            only = Filter(pids=(caller.pid,), follow=True)
            region = (start, start + size)
            with tracer.attach(plan, samples=True, objects=True, region=region, only=only) as live:
                caller.stdin.write("\n")
                caller.stdin.flush()
                before: Counter[Places] = Counter()
                ways = 0
                while line := caller.stdout.readline():
                    way, noted = json.loads(line)
                    ways += 1
                    expected: Counter[Places] = Counter()
                    for pages, frames in noted:
                        expected[tuple((f"py::{f}:{file}", at) for f, file, at in frames)] += pages
                    found = live.snapshot()
                    total, stacks, phases = copies(found)
                    assert total - before == expected, way
                    for frames in total - before:
                        check_places(stacks[frames], minor)
                    importing = phases[Phase.IMPORTING]
                    assert importing == (expected.total() if way == "imports" else 0)
                    assert set(phases) <= {Phase.RUNNING, Phase.IMPORTING}
                    assert found.completeness.lost_details == 0, found.completeness
                    before = total
                    caller.stdin.write("\n")
                    caller.stdin.flush()
                assert ways == 8
        finally:
            caller.kill()


def check_places(stack: Stack, minor: int) -> None:
    assert not any(frame.symbol.startswith("_PyEval_EvalFrameDefault") for frame in stack), stack
    between = native_between(stack)
    for (inner, outer), count in between.items():
        if inner == "key":  # sorted() or map() calls it
            assert count > 0, stack
        if inner in ("write", "innermost") and minor >= INLINES_CALLS:
            assert count == 0, (inner, outer, [frame.symbol for frame in stack])
    assert between
    # What writes the page is C, in front of the frames of Python.
    assert not stack[0].symbol.startswith("py::"), stack
