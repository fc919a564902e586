"""Each test gives up something in a child process, and looks at what that child can still do.

None needs root; as root, capabilities are really lost.
"""

from __future__ import annotations

import ctypes.util
import os
import platform
import signal
import subprocess
import sys

import pytest

ALLOWED = (
    'ALLOWED = ["read", "write", "exit_group", "munmap", "mmap", "brk", "rt_sigaction", "futex",'
    ' "madvise", "rt_sigreturn", "close", "openat", "fstat", "newfstatat", "lseek", "ioctl",'
    ' "getdents64", "readlink", "fcntl"]\n'
)

pytestmark = pytest.mark.skipif(
    ctypes.util.find_library("seccomp") is None, reason="libseccomp2 is not installed"
)


def child(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with the module imported."""
    head = "import os, resource\nfrom cowtrace import sandbox\n" + ALLOWED
    return subprocess.run(
        [sys.executable, "-c", head + code],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def status(text: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


PRINT_STATUS = "print(open('/proc/self/status').read())\n"


def test_enter_leaves_no_capability_and_no_way_back() -> None:
    done = child("sandbox.enter(ALLOWED)\n" + PRINT_STATUS)
    assert done.returncode == 0, done.stderr
    seen = status(done.stdout)
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(seen[name], 16) == 0, name
    if os.geteuid() == 0:
        assert int(seen["CapBnd"], 16) == 0
    assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2")


def test_enter_kills_the_process_at_a_system_call_that_is_not_allowed() -> None:
    assert child("sandbox.enter(ALLOWED)\nos.getppid()").returncode == -signal.SIGSYS


@pytest.mark.skipif(platform.machine() != "x86_64", reason="there is no other architecture's call")
@pytest.mark.parametrize("number", [0x40000000 + 110, 0x40000000])
def test_calls_of_the_x32_architecture_kill_also_where_only_few_calls_are_denied(
    number: int,
) -> None:
    """A filter by number alone takes 0x4000006e for an unknown, so allowed, call: it is getppid."""
    code = (
        "import ctypes\n"
        "sandbox.filter_calls(['getppid'], sandbox.fail(1), otherwise=sandbox.ALLOW)\n"
        f"print(ctypes.CDLL(None).syscall({number}))"
    )
    assert child(code).returncode == -signal.SIGSYS


def test_an_argument_is_compared_as_the_kernel_reads_it() -> None:
    """ioctl(2)'s second argument is an int: with a high half of 1 it is still the same one."""
    code = (
        "import ctypes, fcntl\n"
        "call = sandbox.Call('fcntl', 1, (fcntl.F_GETFD, fcntl.F_SETFD))\n"
        "sandbox.filter_calls([call], sandbox.fail(38), otherwise=sandbox.ALLOW)\n"
        "syscall = ctypes.CDLL(None, use_errno=True).syscall\n"
        f"number = {72 if platform.machine() == 'x86_64' else 25}\n"
        "for command in (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL):\n"
        "    for high in (0, 1 << 32):\n"
        "        got = syscall(number, 0, ctypes.c_ulong(high | command), 0)\n"
        "        print(got < 0 and ctypes.get_errno())"
    )
    done = child(code)
    assert done.stdout.split() == ["38", "38", "38", "38", "False", "False"], done.stderr


def test_a_misspelt_system_call_is_not_skipped() -> None:
    done = child("sandbox.filter_calls(['exceve'], sandbox.KILL, otherwise=sandbox.ALLOW)")
    assert "ValueError: libseccomp knows no system call exceve()" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose")
def test_kept_capabilities_are_all_that_is_left_also_for_a_program_that_root_executes() -> None:
    code = (
        "sandbox.keep_capabilities(['CAP_SYS_PTRACE', 'CAP_CHECKPOINT_RESTORE'])\n"
        "os.execv('/bin/cat', ['cat', '/proc/self/status'])"
    )
    seen = status(child(code).stdout)
    kept = 1 << 19 | 1 << 40
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(seen[name], 16) == kept, name
    assert int(seen["CapInh"], 16) == int(seen["CapAmb"], 16) == 0
    assert seen["NoNewPrivs"] == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose")
def test_without_the_right_to_reduce_the_bounding_set_nothing_is_regained() -> None:
    """As in a container that has a few capabilities, but not CAP_SETPCAP."""
    code = (
        "sandbox.keep_capabilities(['CAP_SYS_PTRACE', 'CAP_KILL'])\n"
        "sandbox.keep_capabilities(['CAP_KILL'])\n"
        "os.execv('/bin/cat', ['cat', '/proc/self/status'])"
    )
    seen = status(child(code).stdout)
    assert int(seen["CapPrm"], 16) == int(seen["CapEff"], 16) == 1 << 5


def test_a_process_with_a_second_thread_is_refused() -> None:
    """That thread would keep what this one gives up, and could lend it."""
    code = (
        "import threading\n"
        "wait = threading.Event()\n"
        "threading.Thread(target=wait.wait, daemon=True).start()\n"
        "sandbox._PATIENCE_SECONDS = 0.1\n"
        "try:\n    sandbox.keep_capabilities(())\n"
        "except Exception as error:\n    print(error)"
    )
    assert child(code).stdout.startswith("cannot give up privileges: 2 threads run: python")


def test_a_thread_that_just_ended_is_waited_for() -> None:
    code = (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(0.3,), daemon=True).start()\n"
        "sandbox.keep_capabilities(())\nprint('entered')"
    )
    done = child(code)
    assert done.stdout == "entered\n", done.stderr


def test_limits_hold_and_cannot_be_raised() -> None:
    code = (
        "sandbox.enter(ALLOWED + ['prlimit64'], {resource.RLIMIT_NOFILE: 23})\n"
        "print(*map(resource.getrlimit, (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)))\n"
        "try:\n    resource.setrlimit(resource.RLIMIT_NOFILE, (23, 29))\n"
        "except ValueError as error:\n    print(error)"
    )
    done = child(code)
    assert done.stdout.splitlines() == ["(23, 23) (0, 0)", "not allowed to raise maximum limit"]


def test_without_libseccomp_nothing_goes_on() -> None:
    code = (
        "real = sandbox.c.CDLL\n"
        "sandbox.c.CDLL = lambda name, **how: real(name and 'not-there/' + name, **how)\n"
        "sandbox.filter_calls([], sandbox.ALLOW, otherwise=sandbox.KILL)\nprint('went on')"
    )
    done = child(code)
    assert "went on" not in done.stdout
    assert "cannot give up privileges: not-there/libseccomp.so.2" in done.stderr
