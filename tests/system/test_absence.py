"""Kernels without BTF, kprobes or tracefs: cowtrace refuses, or counts right by another plan.

No Debian kernel is built without BTF or kprobes, so what cowtrace finds them by is hidden from it,
in a mount namespace of its own. Where the kernel really lacks it, hiding changes nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import COWTRACE, PATIENCE, asking_anew
from workload_checks import plans

from cowtrace.errors import EXIT_NO_PLAN
from cowtrace.kernel.facts import kernel_facts
from cowtrace.kernel.plan import NoPlan, PlanName, probe_plan
from cowtrace.kernel.preemption import preemptible

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.spread("6.1"),
]

BTF = ("/sys/kernel/btf",)
KPROBES = ("/sys/bus/event_source/devices", "/sys/kernel/tracing", "/sys/kernel/debug")
TRACEFS = KPROBES[1:]
# Hides the files of each folder, and of its links only the one to kprobes.
HIDE = """
import ctypes, os, sys
for place in sys.argv[1].split(":"):
    links = {name: os.path.realpath(f"{place}/{name}") for name in os.listdir(place)
             if os.path.islink(f"{place}/{name}") and name != "kprobe"}
    if ctypes.CDLL(None, use_errno=True).mount(b"none", place.encode(), b"tmpfs", 0, None):
        sys.exit(f"cannot hide {place}: {os.strerror(ctypes.get_errno())}")
    for name, target in links.items():
        os.symlink(target, f"{place}/{name}")
os.execvp(sys.argv[2], sys.argv[2:])
"""

WAITING = "cowtrace: compiling and attaching the probes"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def without(cache_folder: Path) -> Run:
    """Run cowtrace where these folders are empty, and ask the kernel for everything again."""

    def run(hidden: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
        places = ":".join(place for place in hidden if Path(place).is_dir())
        return subprocess.run(
            ["unshare", "--mount", sys.executable, "-c", HIDE, places, *COWTRACE, *arguments],
            env=asking_anew(cache_folder),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return run


def refused(ended: subprocess.CompletedProcess[str]) -> str:
    """Assert that it was refused in two lines; return the first."""
    assert ended.returncode == EXIT_NO_PLAN, ended.stdout + ended.stderr
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    if lines[0] == WAITING:  # compiling takes seconds under emulation
        del lines[0]
    message, hint = lines
    assert message.startswith("cowtrace: ")
    assert hint.startswith("Hint: ")
    return message


def counts_right(ended: subprocess.CompletedProcess[str]) -> str:
    """Assert that the counts match /proc/PID/pagemap; return the plan."""
    answer = json.loads(ended.stdout)
    plan: str = answer["plan"]
    # On a preemptible kernel it is enough that a plan reports what it lost.
    if plan == "kprobe" or not preemptible() or not answer["lost"]:
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert answer["ok"] is True
    return plan


COUNT = ("workload", "fork-both-write", "--pages", "509", "--json")


@pytest.mark.spread
@pytest.mark.parametrize("plan", ["auto", *plans()])
def test_without_btf_each_plan_is_refused(without: Run, plan: str) -> None:
    message = refused(without(BTF, *COUNT, "--attach", plan))
    assert "no type information (/sys/kernel/btf/vmlinux)" in message


@pytest.mark.spread
@pytest.mark.parametrize(
    "command", [("top", "1", "1"), ("run", "--", "true"), ("verify", "C1"), ("demo",)]
)
def test_without_btf_each_command_is_refused(without: Run, command: tuple[str, ...]) -> None:
    refused(without(BTF, *command))


@pytest.mark.spread
def test_without_btf_the_doctor_names_what_is_missing(without: Run) -> None:
    ended = without(BTF, "doctor", "--json")
    assert ended.returncode == EXIT_NO_PLAN
    answer = json.loads(ended.stdout)
    needs = {need["name"]: need for need in answer["requirements"]}
    assert needs["BTF"]["found"] is False
    assert "CONFIG_DEBUG_INFO_BTF" in needs["BTF"]["mend"]
    assert not any(trial["runs"] for trial in answer["plans"])
    assert "no type information" in answer["plans"][0]["refusal"]


def test_without_kprobes_that_plan_is_refused(without: Run) -> None:
    message = refused(without(KPROBES, *COUNT, "--attach", "kprobe"))
    assert "the kprobe plan cannot run here: kernel built without CONFIG_KPROBES" in message


def test_without_kprobes_another_plan_counts_right(without: Run) -> None:
    others = [name for name in plans() if name != "kprobe" and runs(name)]
    ended = without(KPROBES, *COUNT)
    if others:
        assert counts_right(ended) in others
    else:
        refused(ended)


@pytest.mark.spread
def test_without_kprobes_the_doctor_names_the_other_plans(without: Run) -> None:
    others = {name for name in plans() if name != "kprobe" and runs(name)}
    answer = json.loads(without(KPROBES, "doctor", "--json").stdout)
    assert {trial["plan"] for trial in answer["plans"] if trial["runs"]} == others


@pytest.mark.parametrize("plan", plans())
def test_without_tracefs_each_plan_counts_right(without: Run, plan: PlanName) -> None:
    if not runs(plan):
        refused(without(TRACEFS, *COUNT, "--attach", plan))
        return
    assert counts_right(without(TRACEFS, *COUNT, "--attach", plan)) == plan


def test_without_tracefs_the_doctor_names_what_is_missing(without: Run) -> None:
    answer = json.loads(without(TRACEFS, "doctor", "--json").stdout)
    (need,) = [need for need in answer["requirements"] if need["name"] == "tracefs"]
    assert (need["found"], need["detail"]) == (False, "not mounted, or only root may look")


def runs(plan: PlanName) -> bool:
    """Whether this kernel, as it is, has all that the plan needs."""
    return not isinstance(probe_plan(plan, kernel_facts()), NoPlan)
