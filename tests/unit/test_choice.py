"""The filter options: what the kernel is told, what is left out afterwards, and bad input."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from snapshots import detail, event, fork, process, row, snapshot

from cowtrace.cli import cgroups, choice, forks
from cowtrace.cli.choice import Choice
from cowtrace.errors import CowtraceError
from cowtrace.model import ENDED_PID, FaultKind

REDIS = process(1, "redis-server", row(FaultKind.COPIED, 23), row(FaultKind.REUSED, 509))
SHELL = process(2, "sh", row(FaultKind.COPIED, 7), row(FaultKind.UNCLASSIFIED, 1))
NOW = replace(
    snapshot(REDIS, SHELL),
    details=(detail(1), detail(1, FaultKind.REUSED), detail(2)),
    samples=(detail(2),),
    generations=(fork(1, 1, 2), fork(2, 2, 3)),
)


def test_everything_unless_something_is_named() -> None:
    assert Choice().of(NOW) == NOW
    only = Choice().in_tracer()
    assert (only.pids, only.follow, only.cgroup) == ((), False, None)


def test_pids_and_names() -> None:
    assert [p.pid for p in Choice(names=((1, "redis-server"),)).of(NOW).processes] == [1]
    kept = Choice(comm="s?").of(NOW)
    assert [p.pid for p in kept.processes] == [2]
    assert kept.samples == NOW.samples
    assert kept.details == (detail(2),)
    assert Choice(comm="s?").called(NOW) == {2}


def test_rows_that_stand_for_ended_processes_are_those_of_named_ones() -> None:
    """The tracer counts no others, and may have folded some."""
    folded = replace(NOW, processes=(*NOW.processes, process(ENDED_PID)), details=(detail(0),))
    chosen = (1, "redis-server")
    assert Choice(names=(chosen,)).of(folded).details == folded.details
    assert Choice(names=(chosen,), follow=True).with_descendants(folded).details == folded.details
    assert Choice(comm="s?").of(folded).details == ()


def test_what_the_kernel_follows_is_not_left_out_again() -> None:
    assert Choice(names=((1, "redis-server"),), follow=True).of(NOW).processes == NOW.processes


def test_a_named_process_without_a_fault_is_there() -> None:
    me = os.getpid()
    (quiet,) = Choice(names=((me, "me"),)).of(NOW).processes
    assert (quiet.pid, quiet.exited, quiet.faults) == (me, False, 0)


def test_kinds_that_were_not_asked_for_are_missing() -> None:
    kept = Choice(kinds=frozenset({FaultKind.REUSED})).of(NOW)
    redis, shell = kept.processes
    assert redis.count(FaultKind.REUSED) == 509
    assert redis.count(FaultKind.COPIED) is None
    assert [row.kind for row in kept.details] == [FaultKind.REUSED]
    assert kept.samples == ()
    assert shell.unclassified == 1  # it could be one of them


def test_events() -> None:
    choice = Choice(comm="redis*", kinds=frozenset({FaultKind.COPIED}))
    assert choice.takes(event())
    assert not choice.takes(event(comm="sh"))
    assert not choice.takes(event(kind=FaultKind.REUSED))


def test_the_options_know_every_kind() -> None:
    assert tuple(kind.label for kind in FaultKind) == choice.KINDS


@click.command()
@choice.filter_options
def chosen(choice: Choice) -> None:
    click.echo(f"{choice.pids} {choice.follow} {sorted(choice.kinds)}")


def test_options() -> None:
    me = str(os.getpid())
    ran = CliRunner().invoke(chosen, ["-p", me, "-p", me, "--follow", "--kind", "zero-filled"])
    assert ran.stdout == f"({me},) True [{FaultKind.ZERO_FILLED!r}]\n"


@pytest.mark.parametrize("arguments", [["--follow"], ["--kind", "copies"], ["-p", "0"]])
def test_usage_errors(arguments: list[str]) -> None:
    assert CliRunner().invoke(chosen, arguments).exit_code == 2


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, Path]:
    """A mounted cgroup v2 tree, and the file that says where."""
    root = tmp_path / "cgroup v2"
    (root / "system.slice" / "redis.service").mkdir(parents=True)
    (root / "system.slice" / "cgroup.procs").write_text("23\n")
    (root / "system.slice" / "redis.service" / "cgroup.procs").write_text("42\n509\n")
    mounts = tmp_path / "mountinfo"
    escaped = str(root).replace(" ", "\\040")
    mounts.write_text(
        f"25 30 0:23 / /proc rw - proc proc rw\n30 1 0:26 / {escaped} rw,nosuid - cgroup2 none rw\n"
    )
    return root, mounts


def test_a_cgroup_by_each_of_its_names(tree: tuple[Path, Path]) -> None:
    root, mounts = tree
    wanted = root / "system.slice" / "redis.service"
    for name in ("system.slice/redis.service", "/system.slice/redis.service", str(wanted)):
        assert cgroups.folder(name, mounts) == wanted


def test_processes_of_a_cgroup(tree: tuple[Path, Path]) -> None:
    root, _ = tree
    assert cgroups.processes(root / "system.slice") == {23, 42, 509}
    assert cgroups.processes(root / "none") == set()


def test_bad_cgroups(tree: tuple[Path, Path], tmp_path: Path) -> None:
    root, mounts = tree
    (tmp_path / "outside").mkdir()
    for name, problem in (
        ("no.slice", f"no cgroup no.slice in {root}"),
        (str(tmp_path / "outside"), f"{tmp_path / 'outside'} is no cgroup v2 folder"),
        ("../outside", "no cgroup ../outside"),
        ("a\x1b[31m", "no cgroup a\\x1b[31m"),
    ):
        with pytest.raises(CowtraceError, match="cgroup") as failed:
            cgroups.folder(name, mounts)
        assert str(failed.value).startswith(problem)
    mounts.write_text("25 30 0:23 / /proc rw - proc proc rw\n")
    with pytest.raises(CowtraceError, match="no cgroup v2 tree is mounted"):
        cgroups.folder("system.slice", mounts)


IN_CGROUP = Choice(cgroup=Path("/sys/fs/cgroup/box"))


@pytest.mark.parametrize(
    ("copied", "members", "shown"),
    [(0, set(), False), (0, {2}, True), (0, {1}, True), (0, {3}, False), (7, set(), True)],
)
def test_forks_of_a_cgroup_have_a_member_or_a_copy_in_it(
    copied: int, members: set[int], shown: bool
) -> None:
    """The kernel lets only faults pass that are in the group."""
    now = replace(NOW, generations=(fork(1, 1, 2, by_child=copied),))
    assert bool(forks.of_forks(now, IN_CGROUP, members).generations) is shown


def test_forks_must_meet_each_filter() -> None:
    for comm, shown in (("redis*", 1), ("no-such-name", 0)):
        choice = Choice(names=((1, "redis-server"),), comm=comm)
        assert len(forks.of_forks(NOW, choice, set()).generations) == shown
