"""A thread that sleeps in a fault uses up a kretprobe's returns: what that hides is lost."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from writers import PAGE, cause, copied, parent_of_writers

from cowtrace import tracer
from cowtrace.tracer import kprobes
from cowtrace.tracer.filter import Filter
from cowtrace.workloads import calls
from cowtrace.workloads.region import REGION_END, REGION_START, scratch_region

pytestmark = pytest.mark.vm

WRITERS = 23


def test_a_fault_whose_return_is_missed_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kprobes, "_MAXACTIVE", 1)
    only = Filter(pids=(os.getpid(),), follow=True)
    region = (REGION_START, REGION_END)
    with tracer.attach("kprobe", region=region, only=only) as live, scratch_region(1) as page:
        uffd = calls.userfaultfd_wp(page.start, PAGE)
        calls.write_protect(uffd, page.start, PAGE, on=True)
        sleeper = threading.Thread(target=page.fill, args=(2,))
        sleeper.start()
        os.read(uffd, 32)  # it sleeps in do_wp_page()
        before = live.snapshot().completeness.lost
        with parent_of_writers() as write:
            children = [write(1) for _ in range(WRITERS)]
        time.sleep(0.1)
        done = live.snapshot()
        calls.write_protect(uffd, page.start, PAGE, on=False)
        sleeper.join()
    os.close(uffd)
    missing = WRITERS - sum(copied(done, child) for child in children)
    assert missing > 0, Path("/proc/sys/kernel/osrelease").read_text()
    assert done.completeness.lost - before >= missing
    assert cause(done, "return missed") >= missing
