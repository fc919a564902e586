"""proc.py and what tables show of it: where processes run, PIDs in containers, sums by cgroup."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from snapshots import PAGE, process, row, snapshot, text

from cowtrace import proc as procfs
from cowtrace.analysis.cgroups import cgroup_rows
from cowtrace.analysis.processes import Frame, rows
from cowtrace.errors import CowtraceError
from cowtrace.model import FaultKind, Place
from cowtrace.proc import Places, read_place
from cowtrace.terminal import cgroups
from cowtrace.terminal.footer import containers

POD = "/kubepods.slice/kubepods-burstable.slice/cri-containerd-4f2a9c.scope"


def proc(folder: Path, pid: int, status: bytes, cgroup: bytes) -> Path:
    (folder / str(pid)).mkdir()
    (folder / str(pid) / "status").write_bytes(status)
    (folder / str(pid) / "cgroup").write_bytes(cgroup)
    return folder


def test_a_process_that_proc_hides_is_no_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As hidepid=2 does to another user's: its folder is not there, and a signal is refused."""
    monkeypatch.setattr(procfs, "_PROC", tmp_path)

    def refused(pid: int, signal: int) -> None:
        assert (pid, signal) == (4711, 0)
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)
    with pytest.raises(CowtraceError, match=r"process 4711 is another user's, .*hidepid") as caught:
        procfs.comm(4711)
    assert "sudo" in caught.value.hint
    for error in (ProcessLookupError, OverflowError):

        def gone(pid: int, signal: int, error: type[Exception] = error) -> None:
            raise error

        monkeypatch.setattr(os, "kill", gone)
        with pytest.raises(CowtraceError, match="no process has the PID 4711"):
            procfs.comm(4711)


@pytest.mark.parametrize(
    ("nspid", "cgroup", "expected"),
    [
        (b"4711", b"0::/\n", Place(4711, "/")),
        (b"4711\t7\t1", f"0::{POD}\n".encode(), Place(1, POD)),
        # a host with both versions: v1 tells more
        (b"23\t1", b"9:memory:/docker/4f\n1:name=systemd:/x\n0::/\n", Place(1, "/docker/4f")),
        (b"23", b"4:cpu,memory:/a:b\n", Place(23, "/a:b")),
        (b"23", b"4:cpu:/a\n", Place(23, None)),
        (b"23", b"0::/\xff (deleted)\n", Place(23, "/\\xff (deleted)")),
        (b"", b"", Place(None, None)),
    ],
)
def test_proc(tmp_path: Path, nspid: bytes, cgroup: bytes, expected: Place) -> None:
    # a name cannot pass for a line: the kernel escapes its newlines
    status = b"Name:\tx\\nNSpid:\t9\nTgid:\t23\nNSpid:\t" + nspid + b"\nVmPeak:\t1 kB\n"
    assert read_place(23, proc(tmp_path, 23, status, cgroup)) == expected
    assert read_place(24, tmp_path) is None


class Asked:
    """Answers for pids, and notes which were asked for."""

    def __init__(self, **known: str) -> None:
        self.known = {int(name[1:]): Place(1, path) for name, path in known.items()}
        self.pids: list[int] = []

    def __call__(self, pid: int) -> Place | None:
        self.pids.append(pid)
        return self.known.get(pid)


def test_asked_again_only_when_it_has_changed() -> None:
    answers = Asked(_1="/a")
    places = Places(answers)
    one = process(1, start_ns=5)
    assert [places.of(one), places.of(one)] == [Place(1, "/a")] * 2
    assert answers.pids == [1]
    answers.known[1] = Place(1, "/moved")
    assert places.of(replace(one, comm="other", changed_in=one.changed_in + 1)).cgroup == "/moved"
    del answers.known[1]
    assert places.of(replace(one, exited=True, changed_in=one.changed_in + 2)) == Place(1, "/moved")
    assert places.of(process(1, start_ns=6)) == Place(None, None)  # the pid came back


def test_one_that_had_ended_is_in_its_ancestors_cgroup() -> None:
    grandchild = process(3, parent=2, exited=True)
    places = Places(Asked(_1="/box"))
    places.look(snapshot(grandchild, process(2, parent=1, exited=True)))
    assert places.of(grandchild) == Place(None, "/box")  # its pid there is not known
    orphan = process(9, parent=8, exited=True)
    assert places.of(orphan) == Place(None, None)


def test_a_circle_of_pids_that_came_back_has_an_end() -> None:
    places = Places(Asked())
    circle = process(1, parent=2, exited=True), process(2, parent=1, exited=True)
    places.look(snapshot(*circle))
    assert places.of(circle[0]) == Place(None, None)


def test_places_of_what_is_gone_are_dropped() -> None:
    places = Places(Asked())
    for pid in range(1, 3001):
        places.of(process(pid, exited=True))
    places.look(snapshot(process(3000, exited=True)))
    assert list(places._places) == [(3000, None)]


def test_a_line_for_each_container() -> None:
    places = {4711: Place(1, POD), 4712: Place(7, POD), 23: Place(23, "/"), 9: Place(2, None)}
    shown = [str(line) for line in containers([4711, 23, 4712, 4711, 9, 5], places, 60)]
    assert shown == [
        "in …e/cri-containerd-4f2a9c.scope: PID 4711=1 4712=7",
        "in a cgroup that is not known: PID 9=2",
    ]
    assert containers([23, 5], places, 80) == []


def test_no_name_and_no_number_of_them_makes_it_wide() -> None:
    places = {pid: Place(1, f"/\x1b[31m{pid}{'x' * 300}") for pid in range(1000, 1100)}
    lines = containers(places, places, 80)
    assert len(lines) == 6
    assert str(lines[-1]) == "and 95 containers more"
    assert max(line.cell_len for line in lines) <= 80
    crowd = containers(range(1000, 1100), {p: Place(p - 999, "/a") for p in range(1000, 1100)}, 80)
    assert str(crowd[0]).endswith("…")
    assert "\x1b" not in "".join(map(str, lines))


def test_below_the_table_of_processes() -> None:
    now = snapshot(process(4711, "redis-server", row(FaultKind.COPIED, 23)))
    frame = Frame(now, rows(now, None), 1, places={4711: Place(1, "/docker/4f2a")})
    assert text(frame).splitlines()[2] == "in /docker/4f2a: PID 4711=1"


def test_sums_by_cgroup() -> None:
    before = snapshot(process(1, "a", row(FaultKind.COPIED, 23)), at=1)
    now = snapshot(
        process(1, "a", row(FaultKind.COPIED, 53)),
        process(2, "b", row(FaultKind.REUSED, 7), exited=True),
        process(3, "c", row(FaultKind.COPIED, 509)),
        process(4, "quiet"),
        process(5, "d", row(FaultKind.ZERO_FILLED, 11)),
        at=2,
    )
    paths = {1: POD, 2: POD, 3: "/user.slice", 4: "/none"}
    found = cgroup_rows(now, before, lambda p: paths.get(p.pid), sort="bytes")
    assert [(r.cgroup, r.processes, r.sums.copied, r.sums.reused) for r in found] == [
        ("/user.slice", 1, 509, 0),
        (POD, 2, 53, 7),
        (None, 1, 0, 0),
    ]
    assert found[1].sums.rate == 30 * PAGE
    assert [r.cgroup for r in cgroup_rows(now, None, lambda p: paths.get(p.pid), sort="pid")] == [
        None, POD, "/user.slice",
    ]  # fmt: skip
    assert (
        text(cgroups.view(now, found, 2))
        == """\
CGROUP                             PROCS  FAULTS  COPIED  REUSED   BYTES      /S
/user.slice                            1     509     509       0 1.99MiB 1.99MiB
…lice/cri-containerd-4f2a9c.scope      2      60      53       7  212KiB  120KiB
plan kprobe, kernel 6.12.43+deb13-cloud-amd64, 2.0 s: 2 of 3 cgroups
unclassified 0, lost 0
"""
    )


def test_what_the_plan_cannot_see_is_missing() -> None:
    unseen = frozenset({FaultKind.SHARED})
    now = snapshot(process(1, "a", row(FaultKind.COPIED, 23), unseen=unseen), unseen=unseen)
    (found,) = cgroup_rows(now, None, lambda p: "/")
    assert found.sums.shared is None
