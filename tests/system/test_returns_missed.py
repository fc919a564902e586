"""A thread that sleeps in a fault uses up a kretprobe's returns: what that hides is lost."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from contextlib import ExitStack
from operator import itemgetter

import pytest
from command import eventually
from writers import PAGE, cause

from cowtrace import tracer
from cowtrace.kernel.limits import SLOTS
from cowtrace.tracer import abi, bpf_maps, kprobes
from cowtrace.tracer.filter import Filter
from cowtrace.workloads import calls
from cowtrace.workloads.region import scratch_region

pytestmark = [pytest.mark.vm, pytest.mark.spread("5.10", "7.2")]

WRITERS = 23
# The tid of struct inflight.
SLOT: abi.Layout[int] = abi.Layout(itemgetter(0), struct.Struct("<40xI4x"))


def test_no_slot_waits_for_the_return_of_a_thread_that_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kprobes, "_MAXACTIVE", 1)
    only = Filter(pids=(os.getpid(),), follow=True)
    written = ctypes.c_uint64()
    with tracer.attach("kprobe", outcomes=True, only=only) as live, scratch_region(1) as page:
        uffd = calls.userfaultfd_wp(page.start, PAGE)
        calls.write_protect(uffd, page.start, PAGE, on=True)
        sleeper = threading.Thread(target=page.fill, args=(2,))
        sleeper.start()
        os.read(uffd, 32)  # it sleeps in do_wp_page()
        # They write a page or two, and end: the last fault has none after it that would tell.
        address = ctypes.addressof(written)
        children = [calls.clone_calling_time(address, 0) for _ in range(WRITERS)]
        # On a busy machine the last ones still end.
        assert eventually(lambda: cause(live.snapshot(), "return missed") >= WRITERS)
        slots = live._loaded.maps["wp_inflight"]
        waiting = {
            bpf_maps.read_element(slots, abi.U32.pack(child % SLOTS), SLOT) for child in children
        }
        calls.write_protect(uffd, page.start, PAGE, on=False)
        sleeper.join()
    os.close(uffd)
    assert not waiting & set(children)


def test_each_tracer_of_a_process_follows_many_threads_that_sleep() -> None:
    only = Filter(pids=(os.getpid(),), follow=True)
    with ExitStack() as stack:
        attached = [
            stack.enter_context(tracer.attach("kprobe", outcomes=True, only=only)) for _ in range(2)
        ]
        pages = stack.enter_context(scratch_region(WRITERS))
        uffd = calls.userfaultfd_wp(pages.start, WRITERS * PAGE)
        calls.write_protect(uffd, pages.start, WRITERS * PAGE, on=True)
        places = [pages.start + page * PAGE for page in range(WRITERS)]
        sleepers = [threading.Thread(target=ctypes.memset, args=(at, 2, 1)) for at in places]
        for sleeper in sleepers:
            sleeper.start()
            os.read(uffd, 32)  # it sleeps in do_wp_page()
        calls.write_protect(uffd, pages.start, WRITERS * PAGE, on=False)
        for sleeper in sleepers:
            sleeper.join()
        os.close(uffd)
        assert [cause(live.snapshot(), "return missed") for live in attached] == [0, 0]
