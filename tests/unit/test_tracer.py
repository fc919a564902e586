"""The moment of a snapshot is that of its counts, however long it takes to name addresses."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from snapshots import SECOND

from cowtrace.tracer.losses import COUNTERS
from cowtrace.tracer.tracer import Tracer


def test_a_slow_look_does_not_move_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = 7 * SECOND

    def slow(*_: object) -> Any:
        nonlocal now_ns
        now_ns += 8 * SECOND
        return {}

    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns)
    tracer = object.__new__(Tracer)
    tracer.plan = "kprobe"
    tracer.probe_plan = Mock(unseen=frozenset())
    tracer._facts = SimpleNamespace(release="6.12", page_bytes=4096)  # type: ignore[assignment]
    counters = (0,) * len(COUNTERS)
    raw = Mock(details=None, processes={})
    tracer._rounds = Mock(counters=lambda: counters, read=lambda: raw)
    tracer._loaded = Mock(skipped_runs=lambda: (0, 0))
    tracer._details = Mock(add=slow)
    tracer._samples = Mock(read=slow)
    tracer._ledger = Mock(add=slow)
    tracer._attached_ns, tracer._baseline = 0, (*counters, 0, 0)
    assert tracer.snapshot().at_ns == 7 * SECOND
