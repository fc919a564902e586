"""Describe mappings: recognize the heap, note the new end of one that has shrunk."""

from __future__ import annotations

import ctypes
import os

import pytest
from writers import PAGE, PAGES, parent_of_writers

from cowtrace import tracer
from cowtrace.model import FaultKind, MappingType
from cowtrace.tracer.filter import Filter
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.spread,
]

BEFORE, AFTER = 53, 59  # pages
OWN = Filter(pids=(os.getpid(),), follow=True)


def test_a_mapping_has_the_end_that_it_had_at_its_latest_fault() -> None:
    size = BEFORE + AFTER
    with tracer.attach(
        region=(REGION_START, REGION_END), details=frozenset({"mapping"}), only=OWN
    ) as live:
        if "mapping" not in live.probe_plan.details:
            return  # this plan shows none on this kernel
        with parent_of_writers():
            if not (child := os.fork()):
                ctypes.memset(REGION_START, 2, BEFORE * PAGE)
                rest = ctypes.c_void_p(REGION_START + size * PAGE)
                ctypes.CDLL(None).munmap(rest, ctypes.c_size_t((PAGES - size) * PAGE))
                ctypes.memset(REGION_START + BEFORE * PAGE, 2, AFTER * PAGE)
                os._exit(0)
            os.waitpid(child, 0)
        rows = [row for row in live.snapshot().details if row.pid == child and row.faults]
    assert sum(row.faults for row in rows) == size
    assert {row.kind for row in rows} == {FaultKind.COPIED}
    bounds = {row.mapping and (row.mapping.start, row.mapping.end) for row in rows}
    assert bounds == {(REGION_START, REGION_START + size * PAGE)}


def test_memory_from_brk_is_the_heap() -> None:
    memory = ctypes.CDLL(None)
    memory.sbrk.restype, memory.sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
    start = -(-memory.sbrk((1 + PAGES) * PAGE) // PAGE) * PAGE
    memory.madvise(ctypes.c_void_p(start), ctypes.c_size_t(PAGES * PAGE), 15)  # MADV_NOHUGEPAGE
    ctypes.memset(start, 1, PAGES * PAGE)
    with tracer.attach(events=True, only=OWN) as live:
        if "mapping" not in live.probe_plan.details:
            return
        if not (child := os.fork()):
            ctypes.memset(start, 2, PAGES * PAGE)
            os._exit(0)
        os.waitpid(child, 0)
        found = [
            event.mapping
            for event in [*live.events(0), *live.events(0)]
            if event.pid == child
            and event.kind is FaultKind.COPIED
            and 0 <= event.address - start < PAGES * PAGE
        ]
    assert len(found) == PAGES
    assert {mapping and mapping.type for mapping in found} == {MappingType.HEAP}
