"""Once attached, a command holds only what it needs; it still counts right and ends clean.

The command that `run` and `record` start keeps all that its user has.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from command import COWTRACE, PATIENCE, eventually, programs, programs_of
from sources import writes

from cowtrace.recording.reader import read
from cowtrace.sandbox import CAPABILITIES
from cowtrace.workloads import run
from cowtrace.workloads.region import REGION_START

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.spread("5.10"),
]

PAGES = 1009
NAMING = {"CAP_SYS_PTRACE", "CAP_CHECKPOINT_RESTORE", "CAP_DAC_READ_SEARCH"}
LIVE: dict[str, set[str]] = {
    "top --json 0.5": set(),
    "top --json --by cgroup 0.5": set(),
    "maps --json 0.5": NAMING,
    "forks --json 0.5": set(),
    "latency --json 0.5": set(),
    "snoop --json": NAMING,
    "stacks --json 0.5": NAMING,
    "export prometheus --listen 127.0.0.1:0 --interval 0.5": set(),
}
STATUS = ("Uid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
PRINT_STATUS = ("grep", "-E", "^(Uid|Cap.*|NoNewPrivs|Seccomp):", "/proc/self/status")


def status(pid: int | str) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return {k: v for k, v in re.findall(r"^(\w+):\t(.*)$", text, re.M) if k in STATUS}


def capabilities(pid: int, name: str) -> set[str]:
    bits = int(status(pid)[name], 16)
    known = {each for each, bit in CAPABILITIES.items() if bits >> bit & 1}
    assert sum(1 << CAPABILITIES[each] for each in known) == bits, f"{name}: {bits:x}"
    return known


def confined(running: subprocess.Popen[Any], expected: set[str]) -> None:
    """Assert that this live process gave up all but these capabilities, within a while."""
    assert eventually(lambda: status(running.pid).get("Seccomp") != "0")
    seen = status(running.pid)
    assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2")
    assert int(seen["CapInh"], 16) == int(seen["CapAmb"], 16) == 0
    for name in ("CapPrm", "CapEff", "CapBnd"):
        # Kernels before 5.19 may ask for CAP_BPF to read a map.
        assert capabilities(running.pid, name) - {"CAP_BPF"} == expected, name
    for task in Path(f"/proc/{running.pid}/task").iterdir():
        assert status(f"{running.pid}/task/{task.name}") == seen, task


@pytest.mark.parametrize("line", LIVE)
def test_a_live_command_gives_up_its_privileges_and_counts_on(line: str, tmp_path: Path) -> None:
    name, *arguments = line.split()
    if line.startswith("snoop"):  # elsewhere, too many faults a second may be dropped
        arguments += ["--follow", "-p", str(os.getpid())]
    out, errors = tmp_path / "out", tmp_path / "errors"
    with (
        out.open("w") as stdout,
        errors.open("w") as stderr,
        subprocess.Popen([*COWTRACE, name, *arguments], stdout=stdout, stderr=stderr) as running,
    ):
        try:
            while running.poll() is None and status(running.pid).get("Seccomp") != "2":
                time.sleep(0.05)
            if line.startswith("latency") and running.poll():  # this plan times no faults
                pytest.skip(errors.read_text())
            confined(running, LIVE[line])
            loaded = programs_of(running.pid)
            outcome = run("fork-both-write", PAGES)
            page = scraped(errors) if name == "export" else ""
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(PATIENCE)
    assert running.returncode == 0, errors.read_text()
    assert loaded
    # The kernel frees a program a grace period after its end.
    assert eventually(lambda: not loaded & programs().keys())
    assert kprobe_events(running.pid) == []
    child = outcome.processes[1].pid
    if name == "export":
        assert copies_of(page) >= PAGES
    else:
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert lines, errors.read_text()
        CHECKS[name, "cgroup" in arguments](lines, child)


def scraped(errors: Path) -> str:
    """The exporter's page, with what it counted until after this call."""
    url = next(w for w in errors.read_text().split() if "://" in w)
    since = time.time()

    def newer() -> str:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            text = str(answer.read().decode())
        found = re.search(r"^cowtrace_snapshot_timestamp_seconds (\S+)$", text, re.M)
        return text if found and float(found[1]) > since else ""

    page = eventually(newer)
    assert page, "the exporter reads no more"
    return page


def copies_of(page: str) -> float:
    return sum(map(float, re.findall(r'^cowtrace_faults_total{.*"copied".* (\S+)$', page, re.M)))


def kprobe_events(pid: int) -> list[str]:
    """Those that BCC named after the process."""
    text = ""
    for place in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
        if Path(place, "kprobe_events").is_file():
            text = Path(place, "kprobe_events").read_text()
    return [line for line in text.splitlines() if f"_bcc_{pid}" in line]


def mine(lines: list[dict[str, Any]], rows: str, child: int) -> list[dict[str, Any]]:
    assert lines[-1]["lost"] == 0, lines[-1]["lost_by_cause"]
    return [row for row in lines[-1][rows] if row.get("pid", row.get("child")) == child]


def top(lines: list[dict[str, Any]], child: int) -> None:
    assert mine(lines, "processes", child)[0]["copied"] >= PAGES


def by_cgroup(lines: list[dict[str, Any]], child: int) -> None:
    assert any(row["cgroup"] and row["copied"] >= PAGES for row in lines[-1]["cgroups"])


def maps(lines: list[dict[str, Any]], child: int) -> None:
    (region,) = (r for r in mine(lines, "mappings", child) if r["start"] == REGION_START)
    assert region["copied"] == PAGES


def forks(lines: list[dict[str, Any]], child: int) -> None:
    (fork,) = mine(lines, "generations", child)
    assert fork["child_copied_bytes"] >= PAGES * lines[-1]["page_bytes"]


def snoop(lines: list[dict[str, Any]], child: int) -> None:
    end = REGION_START + PAGES * os.sysconf("SC_PAGESIZE")
    faults = [f for f in lines if "pid" in f and REGION_START <= f["address"] < end]
    assert sum(f["pid"] == child and f["kind"] == "copied" for f in faults) == PAGES


def stacks(lines: list[dict[str, Any]], child: int) -> None:
    assert mine(lines, "stacks", child)


def latency(lines: list[dict[str, Any]], child: int) -> None:
    assert lines[-1]["lost"] == 0


CHECKS = {
    ("top", False): top,
    ("top", True): by_cgroup,
    ("maps", False): maps,
    ("forks", False): forks,
    ("snoop", False): snoop,
    ("stacks", False): stacks,
    ("latency", False): latency,
}


def test_stacks_names_the_functions_of_another_users_private_program(tmp_path: Path) -> None:
    """What takes the three capabilities: its maps, its map_files, and its file of mode 0700."""
    program = tmp_path / "private"
    shutil.copy(Path("/usr/bin/python3").resolve(), program)
    shutil.chown(program, "nobody")
    program.chmod(0o700)
    open_to_others(tmp_path)
    source = (
        f"import time\n{writes(23)}\nends, end = os.pipe()\nwhile True:\n"
        "    if not os.fork(): os.read(ends, 1); os._exit(0)\n"
        "    write(); os.write(end, b'.'); os.wait(); time.sleep(0.05)"
    )
    with subprocess.Popen(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", program, "-c", source]
    ) as running:
        try:
            ended = subprocess.run(
                [*COWTRACE, "stacks", "--json", "-p", str(running.pid), "0.5", "2"],
                capture_output=True, text=True, timeout=PATIENCE,
            )  # fmt: skip
        finally:
            running.kill()
    rows = json.loads(ended.stdout.splitlines()[-1])["stacks"]
    modules = {Path(f["module"]).name for row in rows for f in row["frames"] if f["function"]}
    functions = {f["function"] for row in rows for f in row["frames"]}
    assert "private" in modules, ended.stderr
    # Where the Python code is named, it takes the place of _PyEval_EvalFrameDefault().
    assert functions & {"_PyEval_EvalFrameDefault", "PyEval_EvalCode"}, functions


def open_to_others(folder: Path) -> None:
    """Any user may go through the folders of a test."""
    for each in (folder, *list(folder.parents)[:2]):
        each.chmod(0o711)


def test_record_gives_up_its_privileges_and_closes_the_recording(tmp_path: Path) -> None:
    file = tmp_path / "whole.cow"
    with subprocess.Popen(
        [*COWTRACE, "record", "-o", file, "--interval", "0.3"], stderr=subprocess.PIPE, text=True
    ) as running:
        confined(running, NAMING)
        outcome = run("fork-both-write", PAGES)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, errors
    found = read(file)
    assert found.closed
    (child,) = (p for p in found.last.processes if p.pid == outcome.processes[1].pid)
    assert child.copied_bytes >= PAGES * outcome.page_bytes
    assert [path.name for path in tmp_path.iterdir()] == ["whole.cow"]


COMMANDS = {"run": ("run", "-q"), "record": ("record", "--force", "-o", "{}/run.cow")}


@pytest.mark.spread
@pytest.mark.parametrize("name", COMMANDS)
def test_a_started_command_keeps_all_that_its_user_has(name: str, tmp_path: Path) -> None:
    command = ["sh", "-c", f"ulimit -a; {shlex.join(PRINT_STATUS)}"]
    expected = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    start = [part.format(tmp_path) for part in COMMANDS[name]]
    ended = subprocess.run(
        [*COWTRACE, *start, "--", *command], capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == expected


@pytest.mark.spread
@pytest.mark.parametrize("name", COMMANDS)
def test_a_setuid_program_works_in_a_started_command(name: str, tmp_path: Path) -> None:
    """As sudo does: no_new_privs or an empty bounding set would keep it from its user's rights."""
    program = tmp_path / "as-root"
    program.write_bytes(Path("/bin/cat").resolve().read_bytes())
    program.chmod(0o4755)
    open_to_others(tmp_path)
    start = [part.format(tmp_path) for part in COMMANDS[name]]
    ended = subprocess.run(
        [*COWTRACE, *start, "--", "setpriv", "--reuid=nobody", "--regid=nogroup",
         "--clear-groups", program, "/proc/self/status"],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert re.search(r"^Uid:\t65534\t0\t0\t0$", ended.stdout, re.M), ended.stderr


@pytest.mark.spread
@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_of_another_user_is_that_users_alone(name: str, tmp_path: Path) -> None:
    """Credentials, capabilities, descriptors, variables and folder, as runuser(1) has them."""
    start = [part.format(tmp_path) for part in COMMANDS[name]]
    look = (
        "import os, sys; print(os.getresuid(), os.getresgid(), os.getgroups(), os.getcwd(),"
        " sorted(os.listdir('/proc/self/fd')), *(os.environ.get(v) for v in ('HOME', 'SHELL',"
        " 'USER', 'LOGNAME', 'PATH')), sep='\\n', flush=True); os.execvp('grep', sys.argv[1:])"
    )
    show = [sys.executable, "-c", look, *PRINT_STATUS]
    entry = pwd.getpwnam("nobody")
    variables = {
        "HOME": entry.pw_dir,
        "SHELL": entry.pw_shell,
        "USER": "nobody",
        "LOGNAME": "nobody",
    }
    expected, seen = (
        subprocess.run(
            [*begin, *show],
            cwd="/tmp", env=os.environ | more, capture_output=True, text=True, timeout=PATIENCE,
        )
        for begin, more in (
            (["runuser", "-u", "nobody", "--"], variables),
            ([*COWTRACE, *start, "--user", "nobody", "--"], {}),
        )
    )  # fmt: skip
    assert expected.returncode == 0, expected.stderr
    assert seen.stdout == expected.stdout, seen.stderr
    assert "(65534, 65534, 65534)" in seen.stdout


@pytest.mark.spread
def test_becoming_another_user_copies_no_page_of_the_tracer() -> None:
    """A child that ran Python before its program would: some hundred, counted as the command's."""
    copied = []
    for user in ([], ["--user", "nobody"]):
        ended = subprocess.run(
            [*COWTRACE, "run", "--json", *user, "--", "/bin/true"],
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        copied.append(sum(p["copied"] for p in json.loads(ended.stdout)["processes"]))
    assert abs(copied[0] - copied[1]) < 5, copied


@pytest.mark.spread
@pytest.mark.parametrize("name", COMMANDS)
def test_while_its_command_runs_it_holds_one_capability_more(name: str, tmp_path: Path) -> None:
    """CAP_KILL: signals are forwarded also to a command that became another user's."""
    sleeper = "import os, time; os.setuid(65534); print(flush=True); time.sleep(600)"
    start = [part.format(tmp_path) for part in COMMANDS[name]]
    with subprocess.Popen(
        [*COWTRACE, *start, "--", sys.executable, "-c", sleeper],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        assert running.stdout
        running.stdout.readline()
        confined(running, {"CAP_KILL"} | (NAMING if name == "record" else set()))
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 128 + signal.SIGTERM


@pytest.mark.spread
@pytest.mark.parametrize(
    "line", ["run -q -o {} -- true", "record -o {} -- true", "stacks --format folded -o {} 0.3 1"]
)
def test_a_file_is_written_into_a_folder_of_the_user_who_ran_sudo(
    line: str, tmp_path: Path
) -> None:
    """Putting it into place takes a right that root without capabilities does not have."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    shutil.chown(folder, "nobody")
    file = folder / "written"
    ended = subprocess.run(
        [*COWTRACE, *line.format(file).split()], capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in folder.iterdir()] == ["written"]
    assert file.stat().st_size


@pytest.mark.spread
def test_the_demo_gives_up_its_privileges() -> None:
    with subprocess.Popen(
        [*COWTRACE, "demo", "--pages", "2003", "--pause", "0.2"],
        stdout=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        confined(running, set())
        shown, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, shown
    assert "/proc/PID/pagemap, which is independent of the trace, agrees" in " ".join(shown.split())


# Each as an attacker would that runs code in the confined process; prints what succeeded.
ATTACKS = r"""
import ctypes, errno, fcntl, os, platform, resource, signal, subprocess, sys
from cowtrace import tracer
live = tracer.attach(samples=sys.argv[1] == "stacks")
victim = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
live.confine(tracer.Needs())
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
def call(*arguments):
    if libc.syscall(*map(ctypes.c_ulong, arguments)) < 0:
        raise OSError(ctypes.get_errno(), "")
HIGH = 1 << 32
path = ctypes.create_string_buffer(b"/etc/passwd")
at = ctypes.addressof(path)
how = (ctypes.c_uint64 * 3)(os.O_WRONLY, 0, 0)
attacks = {
    "open for writing": lambda: os.open("/etc/passwd", os.O_WRONLY),
    "open for appending": lambda: os.open("/etc/passwd", os.O_RDWR | os.O_APPEND),
    "truncate by opening": lambda: os.open("/etc/hostname-not-there", os.O_RDONLY | os.O_CREAT),
    "flags with a high half": lambda: call(257 if x86 else 56, 0, at, HIGH | os.O_WRONLY, 0),
    "openat2": lambda: call(437, 0, at, ctypes.addressof(how), 24),
    "open, not openat": lambda: call(2 if x86 else 1024, at, os.O_WRONLY, 0),
    "memory of a process": lambda: os.open(f"/proc/{victim.pid}/mem", os.O_RDWR),
    "ptrace": lambda: call(101 if x86 else 117, 16, victim.pid, 0, 0),
    "process_vm_writev": lambda: call(311 if x86 else 271, victim.pid, 0, 0, 0, 0, 0),
    "load a program": lambda: call(321 if x86 else 280, 5, at, 48),
    "load with a high half": lambda: call(321 if x86 else 280, HIGH | 5, at, 48),
    "create a map": lambda: call(321 if x86 else 280, 0, at, 48),
    "perf_event_open": lambda: call(298 if x86 else 241, at, -1, 0, -1, 0),
    "user namespace": lambda: call(272 if x86 else 97, 0x10000000),
    "clone to a user namespace": lambda: call(56 if x86 else 220, 0x10000000 | 17, 0, 0, 0, 0),
    "type into the terminal": lambda: fcntl.ioctl(0, 0x5412, b"x"),
    "rename": lambda: os.rename("/etc/passwd", "/etc/passwd.attacked"),
    "unlink": lambda: os.unlink("/tmp/not-there"),
    "chmod": lambda: os.chmod("/tmp/not-there", 0o4755),
    "mount": lambda: call(165 if x86 else 40, at, at, 0, 0, 0),
    "io_uring": lambda: call(425, 4, at),
    "kernel module": lambda: call(313 if x86 else 273, 0, at, 0),
    "own a descriptor's signals": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, victim.pid),
    "limit a process": lambda: resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, (1, 1)),
    "make a process real-time": lambda: os.sched_setscheduler(
        victim.pid, os.SCHED_FIFO, os.sched_param(1)
    ),
    "signal a thread": lambda: call(234 if x86 else 131, victim.pid, victim.pid, 9),
    "socket": lambda: call(41 if x86 else 198, 2, 1, 0),
}
if sys.argv[1] != "stacks":
    attacks["signal a process"] = lambda: os.kill(victim.pid, signal.SIGKILL)
    attacks["execute"] = lambda: os.execv("/bin/true", ["true"])
for name, attack in attacks.items():
    try:
        attack()
        print(name, "SUCCEEDED")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
live.snapshot()
live.close()
victim.communicate()
sys.exit(victim.returncode)
"""


@pytest.mark.parametrize("what", ["counts", "stacks"])
def test_what_runs_in_a_confined_process_gains_nothing(what: str) -> None:
    """A file of root's stays as it was though the process is root's; so do other processes."""
    ended = subprocess.run(
        [sys.executable, "-c", ATTACKS, what], capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode == 0, ended.stderr
    answers = dict(line.rsplit(" ", 1) for line in ended.stdout.splitlines())
    assert len(answers) == 27 + 2 * (what == "counts")
    assert {name: why for name, why in answers.items() if why != "ENOSYS"} == {}
