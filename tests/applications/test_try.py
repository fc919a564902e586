"""`cowtrace try --with`: the right verdict where a remedy helps, and where it cannot."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import pytest
from command import COWTRACE

from applications.application import PYTHON
from applications.tried import COLLECTS, HELPS, REMEDIES, WRITES, Known, measure, tried

# Not in the VM, which has no scipy. The kernel decides nothing here that other tests leave out.
pytestmark = [pytest.mark.host, pytest.mark.usefixtures("can_trace")]
SHORT = ("--runs", "5", "--warm-up", "0")


@pytest.fixture(autouse=True)
def scipy() -> None:
    pytest.importorskip("scipy", reason="scipy is not installed: pip install scipy")


@pytest.mark.parametrize("known", HELPS, ids=[each.remedy for each in HELPS])
def test_a_remedy_that_helps_is_shown_to(known: Known) -> None:
    found = tried(known.script, [known.remedy], *SHORT)
    row = measure(found["comparisons"][0], known.quantity)
    assert row["is_shown"], row
    assert row["high"] <= known.share, row
    assert row["low"] <= row["change"] <= row["high"]
    assert doubts(found) == []


def test_no_remedy_keeps_a_program_from_what_it_writes_itself() -> None:
    for attempt in (1, 2):  # with this confidence, a difference is named by chance in 1 of 20
        found = tried(WRITES, REMEDIES, *SHORT)
        shown = [
            (each["name"], row["name"], row["change"])
            for each in found["comparisons"]
            for row in each["measures"]
            if row["is_shown"] and row["name"] in ("copied", "zero-filled")
        ]
        if not shown:
            break
        assert attempt == 1, shown
    assert [each["verdict"] for each in found["comparisons"] if "copied bytes" in each["verdict"]]


def test_a_remedy_that_no_process_takes_is_doubted() -> None:
    found = tried("import os\nos.system('true')", ["gc-freeze"], *SHORT)
    (doubt,) = doubts(found)
    assert doubt.startswith("gc-freeze was never applied")


def doubts(found: dict[str, Any]) -> list[str]:
    """Without those of a busy machine: short runs can end before their memory is sampled."""
    return [each for each in found["doubts"] if "memory was sampled" not in each]


def test_ctrl_c_ends_it_with_what_is_there() -> None:
    command = [
        *COWTRACE,
        "try",
        "--with",
        "gc-freeze",
        "--runs",
        "999",
        "--",
        PYTHON,
        "-c",
        COLLECTS,
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as running:
        assert running.stderr
        for line in running.stderr:  # one in 5 s: by the first that is counted, or a later one
            if "warm-up" not in line and int(line.split()[2]) > 4:
                break
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        shown, said = running.communicate()
    assert running.returncode == 128 + signal.SIGINT
    assert "Traceback" not in said
    assert "gc-freeze" in shown
