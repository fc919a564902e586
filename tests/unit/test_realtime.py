"""The reader of BPF maps is a real-time thread where it could be preempted, and only then."""

from __future__ import annotations

import os

import pytest

from cowtrace.tracer import realtime as module
from cowtrace.tracer.realtime import real_time_thread


class Scheduler:
    """This thread's policy, as the kernel would keep it."""

    def __init__(self, policy: int, allowed: bool = True) -> None:
        self.policy, self.allowed = policy, allowed
        self.asked = 0

    def get(self, thread: int) -> int:
        assert thread == 0
        return self.policy

    def set(self, thread: int, policy: int, param: os.sched_param) -> None:
        assert thread == 0
        self.asked += 1
        if not self.allowed and policy == os.SCHED_FIFO:
            raise PermissionError
        assert param.sched_priority == (1 if policy == os.SCHED_FIFO else 0)
        self.policy = policy


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    scheduler = Scheduler(os.SCHED_BATCH)
    monkeypatch.setattr(os, "sched_getscheduler", scheduler.get)
    monkeypatch.setattr(os, "sched_setscheduler", scheduler.set)
    monkeypatch.setattr(module, "_can_be_preempted", lambda: True)
    return scheduler


def test_it_is_as_before_afterwards_also_when_interrupted(kernel: Scheduler) -> None:
    def interrupted() -> None:
        with real_time_thread():
            assert kernel.policy == os.SCHED_FIFO
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert kernel.policy == os.SCHED_BATCH


def test_one_that_is_real_time_already_stays_as_it_is(kernel: Scheduler) -> None:
    kernel.policy = os.SCHED_RR
    with real_time_thread():
        assert kernel.policy == os.SCHED_RR
    assert kernel.asked == 0


def test_without_the_privilege_maps_are_read_all_the_same(kernel: Scheduler) -> None:
    kernel.allowed = False
    with real_time_thread():
        assert kernel.policy == os.SCHED_BATCH
    assert kernel.policy == os.SCHED_BATCH


def test_nothing_is_changed_where_no_thread_is_preempted(
    kernel: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_can_be_preempted", lambda: False)
    with real_time_thread():
        assert kernel.policy == os.SCHED_BATCH
    assert kernel.asked == 0
