"""Kill tracers and traced processes at any moment: no program stays loaded, sums stay right."""

from __future__ import annotations

import ctypes
import os
import pty
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from command import COWTRACE, PATIENCE, PROGRESS, eventually, programs_of
from writers import NS_LAST_PID, PAGE, PAGES, cause, copied, parent_of_writers, region_tracer

from cowtrace.kernel.libbpf import libbpf
from cowtrace.tracer.filter import Filter
from cowtrace.workloads.region import REGION_START

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("can_trace")]

ENDINGS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
# What a shell runs in the background ignores SIGINT, and passes that on.
HEARING = ("env", "--default-signal=INT")
# Of a terminal: the cursor is shown, the other screen is left.
RESTORED = (b"\x1b[?25h", b"\x1b[?1049l")
MOMENTS = random.Random(509)


def test_a_tracer_that_ends_at_any_moment_leaves_no_program_loaded() -> None:
    for ending in ENDINGS:
        for moment in (0.05, MOMENTS.uniform(0.1, 0.6), MOMENTS.uniform(0.6, 1.5)):
            with subprocess.Popen(
                [*HEARING, *COWTRACE, "top", "0.2"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            ) as top:
                time.sleep(moment)
                held = programs_of(top.pid)
                top.send_signal(ending)
                _, errors = top.communicate(timeout=PATIENCE)
            # Before that, it is the interpreter that is being started.
            if b"/cowtrace/" in errors:
                assert b"Traceback" not in errors, (ending, moment, errors)
            assert_gone(held)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_terminal_is_restored(ending: signal.Signals) -> None:
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [*COWTRACE, "top", "0.2"], stdin=follower, stdout=follower, stderr=follower
    ) as top:
        os.close(follower)
        shown = until(leader, lambda text: b"PID" in text)
        top.send_signal(ending)
        shown += until(leader, lambda text: False)
        top.wait(timeout=PATIENCE)
    os.close(leader)
    for leave in RESTORED:
        enter = leave[:-1] + (b"l" if leave.endswith(b"h") else b"h")
        if enter in shown:
            assert shown.rindex(leave) > shown.rindex(enter)
    assert b"\x1b[?25l" in shown  # it was a live screen


def test_it_ends_quietly_when_its_reader_closes_the_pipe() -> None:
    with subprocess.Popen(
        [*COWTRACE, "top", "0.2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as top:
        assert top.stdout
        assert top.stderr
        top.stdout.readline()
        held = programs_of(top.pid)
        assert held
        top.stdout.close()
        errors = top.stderr.read()
        top.wait(timeout=PATIENCE)
    # On a busy machine compiling takes long enough for the progress line.
    assert set(errors.decode().splitlines()) <= {PROGRESS}
    assert_gone(held)


def test_two_tracers_count_the_same() -> None:
    with ExitStack() as stack:
        both = [stack.enter_context(region_tracer()) for _ in range(2)]
        with parent_of_writers() as write:
            child = write(PAGES)
        for each in both:
            snapshot = each.snapshot()
            assert snapshot.completeness.lost == 0
            assert copied(snapshot, child) == PAGES


def test_a_process_that_is_killed_in_the_middle_of_its_faults() -> None:
    with region_tracer() as live, parent_of_writers() as write:
        for moment in (0.0, 0.001, 0.003):
            killed = write(PAGES, kill_after=moment)
            whole = write(PAGES)
            snapshot = live.snapshot()
            assert copied(snapshot, killed) <= PAGES
            assert copied(snapshot, whole) == PAGES
            assert snapshot.completeness.lost == 0


def test_a_pid_reused_within_an_interval_is_counted() -> None:
    if not NS_LAST_PID.exists():
        pytest.skip("this kernel lets nobody choose a pid (CONFIG_CHECKPOINT_RESTORE)")
    # Of this test's own processes: where others fork all the time, their pids come back as well.
    own = Filter(pids=(os.getpid(),), follow=True)
    with region_tracer(own) as live, parent_of_writers() as write:
        for _ in range(99):  # others may take the pid meanwhile, and keep it
            before = cause(live.snapshot(), "pid reused")
            first = write(PAGES)
            again = write(PAGES, pid=first)
            snapshot = live.snapshot()
            if again == first:
                break
    assert again == first
    assert copied(snapshot, first) == 2 * PAGES
    assert cause(snapshot, "pid reused") == before + 1


def test_a_process_that_reuses_the_pid_of_a_chosen_one_is_not_counted() -> None:
    """The filter drops a process when the kernel frees it: a grace period after its end."""
    if not NS_LAST_PID.exists():
        pytest.skip("this kernel lets nobody choose a pid (CONFIG_CHECKPOINT_RESTORE)")
    begins, begin = os.pipe()
    with parent_of_writers() as write:
        for _ in range(9):  # others may take the pid meanwhile, and keep it
            if not (chosen := os.fork()):
                os.read(begins, 1)
                ctypes.memset(REGION_START, 2, PAGES * PAGE)
                os._exit(0)
            with region_tracer(Filter(pids=(chosen,))) as live:
                os.write(begin, b"\n")
                os.waitpid(chosen, 0)
                other = write(PAGES, pid=chosen)
                snapshot = live.snapshot()
            if other == chosen:
                break
    os.close(begins)
    os.close(begin)
    assert other == chosen
    assert copied(snapshot, chosen) == PAGES


@pytest.mark.parametrize("mebibytes", [60, 120, 250, 500])
def test_with_little_memory_it_runs_or_reports_an_error(mebibytes: int) -> None:
    ended = subprocess.run(
        ["prlimit", f"--as={mebibytes << 20}", *COWTRACE, "run", "--", "true"],
        env=os.environ | {"XDG_CACHE_HOME": "/dev/null"},  # so that it compiles, too
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 0 or len(ended.stderr.splitlines()) <= 3, ended.stderr
    assert "Traceback" not in ended.stderr


def assert_gone(programs: set[int]) -> None:
    """The kernel frees a program a grace period after its last user has gone."""
    library = libbpf()

    def left() -> list[int]:
        open_fds = {number: library.bpf_prog_get_fd_by_id(number) for number in programs}
        found = [number for number, fd in open_fds.items() if fd >= 0]
        for number in found:
            os.close(open_fds[number])
        return found

    assert eventually(lambda: not left()), left()


def until(terminal: int, enough: Callable[[bytes], bool]) -> bytes:
    """Read the terminal until `enough` accepts the text, or its last writer has gone."""
    text = b""
    while not enough(text):
        try:
            text += os.read(terminal, 65536)
        except OSError:  # EIO: the last writer has gone
            break
    return text
