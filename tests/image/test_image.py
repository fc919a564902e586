"""The container image, run by podman as the guide says: it traces what runs outside of it.

`.ci/container-test` builds it, as localhost/cowtrace, and runs these as root.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import PATIENCE, eventually
from sources import writes
from system.test_exporter import PAGES, page

from cowtrace.errors import EXIT_NO_PLAN

RUN = ["podman", "run", "--rm"]
TEXT = (Path(__file__).parents[2] / "cowtrace" / "guide" / "containers.md").read_text()
UID = 60935
TWO = 1 << 38 | 1 << 39  # CAP_PERFMON, CAP_BPF
NAME = "cow-outside"
# Forks a child that writes all of its memory, and ends when its stdin does. Says the child's pid.
WORK = f"""
{writes(PAGES)}
child = os.fork()
if not child:
    ctypes.CDLL(None).prctl(15, b"{NAME}")
    write()
    sys.stdin.readline()
    os._exit(0)
print(child, flush=True)
os.waitpid(child, 0)
"""


@pytest.fixture(scope="module", autouse=True)
def profile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """In a folder with the profile that the guide's first command writes."""
    found = re.search(r"^sudo (podman run --rm cowtrace export .*) \| tee (\S+)$", TEXT, re.M)
    assert found, "the guide's command looks different now"
    folder = tmp_path_factory.mktemp("profile")
    shown = subprocess.run(shlex.split(found[1]), capture_output=True, text=True, check=True)
    (folder / found[2]).write_text(shown.stdout)
    with contextlib.chdir(folder):
        yield


def options_of_the_guide() -> list[str]:
    """What the guide's command has between `podman run` and the image's name; no terminal."""
    found = re.search(r"^sudo podman run --rm -it ((?:.*\\\n)*.*) cowtrace top$", TEXT, re.M)
    assert found, "the guide's command looks different now"
    return shlex.split(found[1].replace("\\\n", ""))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *arguments], capture_output=True, text=True, timeout=PATIENCE)


def test_it_traces_a_process_outside(tmp_path: Path) -> None:
    lines, watch = tmp_path / "lines", ("top", "--json", "0.5")
    with (
        lines.open("w") as out,
        subprocess.Popen(
            [*RUN, "--name", "tracing", *options_of_the_guide(), "cowtrace", *watch],
            stdout=out,
        ) as traced,
    ):
        try:
            assert eventually(lambda: lines.read_text().count("\n") > 0)
            status = status_of("tracing")
            assert status["Uid"].split() == [str(UID)] * 4
            for name in ("CapPrm", "CapEff"):
                assert int(status[name], 16) in (0, 1 << 39), name  # given up, but BPF before 5.19
            assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
            with outside() as child:
                assert eventually(lambda: seen(lines, child))
        finally:
            subprocess.run(["podman", "kill", "--signal", "INT", "tracing"], check=True)
        assert traced.wait(PATIENCE) == 0
    found = seen(lines, child)
    assert found["comm"] == NAME
    assert found["copied"] >= PAGES
    assert json.loads(lines.read_text().splitlines()[-1])["lost"] == 0


def test_it_begins_with_two_capabilities_and_no_more() -> None:
    started = run(*options_of_the_guide(), "--entrypoint=cat", "cowtrace", "/proc/self/status")
    status = parsed(started.stdout)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == TWO, name
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split() == [str(UID)] * 4


# System calls that escapes from containers took, by their number on x86-64 and on arm64.
FORBIDDEN = {
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "ptrace": (101, 117),
    "add_key": (248, 217), "keyctl": (250, 219), "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282), "process_vm_writev": (311, 271), "init_module": (175, 105),
    "open_by_handle_at": (304, 265), "kexec_load": (246, 104), "fsopen": (430, 430),
}  # fmt: skip


def test_the_profile_leaves_no_system_call_that_containers_are_escaped_by() -> None:
    code = (
        "import ctypes, os, platform; libc = ctypes.CDLL(None, use_errno=True)\n"
        f"for name, numbers in {FORBIDDEN}.items():\n"
        "    ctypes.set_errno(0)\n"
        "    libc.syscall(numbers[platform.machine() != 'x86_64'], *[0] * 6)\n"
        "    print(name, ctypes.get_errno())\n"
        "try: os.open('/etc/passwd', os.O_WRONLY)\n"
        "except OSError as error: print('read-only', error.errno)"
    )
    shown = run(*options_of_the_guide(), "--entrypoint=python3", "cowtrace", "-c", code)
    answers = dict(line.split() for line in shown.stdout.splitlines())
    assert answers.pop("read-only") in (str(errno.EROFS), str(errno.EACCES))
    assert answers == dict.fromkeys(FORBIDDEN, str(errno.ENOSYS)), shown.stderr


def test_the_base_is_the_one_that_was_pinned() -> None:
    label = '{{index .Labels "org.opencontainers.image.base.name"}}'
    shown = subprocess.run(
        ["podman", "image", "inspect", "--format", label, "cowtrace"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.fullmatch(r"localhost/base@sha256:[0-9a-f]{64}\n", shown.stdout)


def status_of(container: str) -> dict[str, str]:
    """/proc/PID/status of its first process."""
    shown = subprocess.run(
        ["podman", "inspect", "--format", "{{.State.Pid}}", container],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return parsed(Path(f"/proc/{shown.stdout.strip()}/status").read_text())


def parsed(status: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)


def test_without_the_hosts_pids_it_refuses() -> None:
    options = [option for option in options_of_the_guide() if option != "--pid=host"]
    ended = run(*options, "cowtrace", "top", "1", "1")
    assert ended.returncode == EXIT_NO_PLAN
    assert "PID namespace" in ended.stderr
    assert "\nHint: " in ended.stderr


def test_without_capabilities_it_refuses() -> None:
    options = " ".join(options_of_the_guide()).replace("--cap-add BPF,PERFMON", "").split()
    ended = run(*options, "cowtrace", "top", "1", "1")
    assert ended.returncode == EXIT_NO_PLAN
    assert "CAP_BPF and CAP_PERFMON" in ended.stderr


def test_without_a_command_it_is_the_exporter() -> None:
    named = ("-d", "--name", "exporting", "--network=host")
    started = run(*named, *options_of_the_guide(), "cowtrace")
    assert started.returncode == 0, started.stderr
    try:
        assert eventually(lambda: "cowtrace_build_info" in scraped())
    finally:
        subprocess.run(["podman", "stop", "--time", "20", "exporting"], check=True)


@contextmanager
def outside() -> Iterator[int]:
    """The child's pid; it has not ended yet."""
    with subprocess.Popen(
        [sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout
        yield int(running.stdout.readline())
        running.communicate("\n", timeout=PATIENCE)


def seen(lines: Path, pid: int) -> Any:
    """The process in the last whole line; None when it is not in it."""
    whole = lines.read_text().split("\n")[:-1]
    return next((p for p in json.loads(whole[-1])["processes"] if p["pid"] == pid), None)


def scraped() -> str:
    try:
        return page("http://127.0.0.1:9435/metrics")
    except OSError:
        return ""
