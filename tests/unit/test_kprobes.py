"""The process that removes kprobe events from tracefs; here, an ordinary file stands for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowtrace.tracer import kprobes
from cowtrace.tracer.kprobes import _sweeper


def test_the_sweeper_removes_the_events_of_its_tracer_without_any_capability(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A plain file keeps what is removed: each attempt finds it again.
    monkeypatch.setattr(kprobes, "_SWEEP", kprobes._SWEEP.replace("sleep 0.1", "sleep 0.01"))
    events = tmp_path / "kprobe_events"
    own, another = (f"kprobes/r_do_wp_page_{number}_bcc_23" for number in (3, 13))
    events.write_text(f"r1024:{own} do_wp_page\nr1024:{another} do_wp_page\n")
    running = _sweeper(events, "3_bcc_23")
    status = Path(f"/proc/{running.pid}/status").read_text()
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert f"\n{name}:\t{'0' * 16}\n" in status
    assert "\nNoNewPrivs:\t1\n" in status
    running.communicate()  # as when the tracer closes, or ends
    assert set(events.read_text().splitlines()[2:]) == {f"-:{own}"}
