"""Wrong names, numbers of pages and ends of a workload: two lines each, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from cowtrace import workloads
from cowtrace.errors import EXIT_FAILURE, EXIT_USAGE, CowtraceError
from cowtrace.workloads import workload
from cowtrace.workloads.region import PAGE_BYTES, pin_to_one_cpu
from cowtrace.workloads.stepped_child import Child


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(CowtraceError, match="'fork-both-writes'") as caught:
        workloads.run("fork-both-writes", 23)
    assert "fork-both-write?" in caught.value.hint
    assert caught.value.exit_code == EXIT_USAGE


def test_a_name_like_no_other_suggests_the_list() -> None:
    with pytest.raises(CowtraceError) as caught:
        workload.find("qqq")
    assert caught.value.hint == "list all workloads: cowtrace workload --list"


@pytest.mark.parametrize("pages", [0, -1])
def test_no_pages(pages: int) -> None:
    with pytest.raises(CowtraceError, match=f"--pages is {pages}") as caught:
        workloads.run("zero-page", pages)
    assert caught.value.exit_code == EXIT_USAGE


def test_more_than_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "available_bytes", lambda: 2 * 100 * PAGE_BYTES)
    workload.check_pages(workload.find("fork-child-writes"), 100)
    with pytest.raises(CowtraceError, match="more than memory holds") as caught:
        workload.check_pages(workload.find("fork-child-writes"), 101)
    assert "at most --pages 100" in caught.value.hint
    assert caught.value.exit_code == EXIT_FAILURE


def test_more_than_any_memory() -> None:
    with pytest.raises(CowtraceError, match="more than memory holds"):
        workloads.run("zero-page", 2**70)


def test_the_module_alone_fails_in_two_lines() -> None:
    command = [sys.executable, "-m", "cowtrace.workloads", "zero-page", "--pages", "0"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == EXIT_USAGE
    assert ended.stdout == ""
    first, second = ended.stderr.splitlines()
    assert first.startswith("cowtrace: ")
    assert second.startswith("Hint: ")


class Thing:
    """What a child makes of itself here."""

    def double(self, number: int) -> int:
        return 2 * number

    def fail(self) -> None:
        raise CowtraceError("it failed", hint="try again")

    def err(self) -> None:
        raise ValueError("unforeseen")

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_child_answers() -> None:
    child = Child(Thing)
    assert child.do(Thing.double, 21) == 42
    child.close()
    child.close()


@pytest.mark.parametrize(
    ("action", "message", "hint"),
    [
        (Thing.fail, "it failed", "try again"),
        (Thing.err, "unforeseen", "report"),
        (Thing.die, "ended too early: SIGKILL", "fewer pages"),
    ],
)
def test_a_childs_failure_is_the_parents(action: object, message: str, hint: str) -> None:
    child = Child(Thing)
    with pytest.raises(CowtraceError, match=message) as caught:
        child.do(action)  # type: ignore[arg-type]
    assert hint in caught.value.hint
    child.close()


def test_children_end_with_their_parent() -> None:
    """No process may outlive an interrupted workload."""
    script = (
        "import os; from cowtrace.workloads.stepped_child import Child;"
        "pids = [Child(object).pid for _ in range(3)];"
        "print(*pids, flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ended:
        assert ended.stdout
        line = ended.stdout.read()  # ends when the last of them has gone
    assert len(line.split()) == 3


def test_a_cpu_that_goes_offline_meanwhile_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[set[int]] = []

    def pin(pid: int, cpus: set[int]) -> None:
        if cpus == {3}:
            raise OSError(22, "Invalid argument")
        taken.append(cpus)

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 3})
    monkeypatch.setattr(os, "sched_setaffinity", pin)
    pin_to_one_cpu()
    assert taken == [{1}]
