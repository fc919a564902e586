"""Which processes are told to the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cowtrace.tracer import bpf_maps
from cowtrace.tracer import filter as filter_module
from cowtrace.tracer.filter import Filter


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(map, key) of each element that is written."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(bpf_maps, "write_element", lambda fd, key, value: found.append((fd, key)))
    return found


FDS = {"wanted": 30, "cgroups": 40}


def test_nothing_named_needs_no_map(written: list[tuple[int, int]]) -> None:
    Filter().seed(FDS)
    assert written == []


def test_pids_are_told(written: list[tuple[int, int]]) -> None:
    Filter(pids=(7, 9)).seed(FDS)
    assert written == [(30, 7), (30, 9)]


def test_descendants_that_live_already_are_told_with_follow(written: list[tuple[int, int]]) -> None:
    code = (
        "import subprocess\n"
        "open('/proc/self/comm', 'w').write(') S 1 1')\n"  # looks like fields of /proc/PID/stat
        "child = subprocess.Popen(['sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        try:
            Filter(pids=(child.pid,), follow=True).seed(FDS)
        finally:
            os.kill(grandchild, 9)
    assert {(30, child.pid), (30, grandchild)} == set(written)


def test_a_cgroup_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Filter(cgroup=tmp_path / "none").seed(FDS)


def test_a_cgroup_is_told_by_its_folder(tmp_path: Path, written: list[tuple[int, int]]) -> None:
    Filter(cgroup=tmp_path).seed(FDS)
    assert written == [(40, 0)]


def test_children_that_are_forked_during_the_first_look_are_found_by_the_second(
    monkeypatch: pytest.MonkeyPatch, written: list[tuple[int, int]]
) -> None:
    looks = iter([{8}, {8, 9}])
    monkeypatch.setattr(filter_module, "descendants", lambda pids: next(looks))
    Filter(pids=(7,), follow=True).seed(FDS)
    assert {pid for _, pid in written} == {7, 8, 9}


def test_helpers_of_this_process_are_not_counted(
    monkeypatch: pytest.MonkeyPatch, written: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr(filter_module, "descendants", lambda pids: {8} if pids else set())
    Filter(pids=(os.getpid(),), follow=True).seed(FDS)
    assert written == [(30, os.getpid())]
