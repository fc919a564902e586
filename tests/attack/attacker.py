"""Start attacks as a user of their own, and end all of that user's processes."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

SOURCES = Path(__file__).parent
PROGRAMS = ("code", "memory", "processes", "race")
MOST_PROCESSES = 5500


class NoCompiler(Exception):
    """The attacks are written in C."""


def compiled(name: str, folder: Path) -> Path:
    """A program of this folder."""
    if not (compiler := shutil.which("gcc")):
        raise NoCompiler("no C compiler: apt install gcc libc6-dev")
    program = folder / name
    flags = ["-O1", "-w", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread"]
    ended = subprocess.run(
        [compiler, *flags, "-static", "-o", str(program), str(SOURCES / f"{name}.c")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ended.returncode:
        raise NoCompiler(f"{name}.c does not compile: {ended.stderr.strip()}")
    program.chmod(0o755)
    return program


class Attacker:
    """An ordinary user that no one else is. A context manager: at its end, nothing of it runs."""

    def __init__(self, bin: Path) -> None:
        self.uid = 0x7000_0000 + os.getpid()
        self._bin = bin
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Attacker:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_all()

    def start(self, folder: Path, command: list[str]) -> subprocess.Popen[bytes]:
        """Run `code map-fifo`, or `clients.py flood PORT`, in a folder that belongs to it."""
        if command[0].endswith(".py"):
            command = ["/usr/bin/python3", "-I", *command]
        at = 2 if command[0] == "/usr/bin/python3" else 0
        command[at] = str(self._bin / command[at])
        started = subprocess.Popen(
            command,
            cwd=folder,
            user=self.uid,
            group=self.uid,
            extra_groups=[],
            preexec_fn=_limited,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin", "TERM": "\x1b[31mPWNED"},
        )
        self._started.append(started)
        return started

    def end_all(self) -> None:
        """Kill whatever runs as this user, until nothing does."""
        deadline = time.monotonic() + 60
        while self.count() and time.monotonic() < deadline:
            killer = os.fork()
            if not killer:
                try:
                    os.setgroups([])
                    os.setresgid(self.uid, self.uid, self.uid)
                    os.setresuid(self.uid, self.uid, self.uid)
                    os.kill(-1, signal.SIGKILL)
                finally:
                    os._exit(0)
            os.waitpid(killer, 0)
            for started in self._started:
                started.poll()
            time.sleep(0.1)
        for started in self._started:
            started.wait()
        self._started.clear()
        for left in Path("/tmp").glob("perf-*.map"):
            if left.lstat().st_uid == self.uid:
                left.rmdir() if left.is_dir() and not left.is_symlink() else left.unlink()

    def count(self) -> int:
        """How many processes run as this user, zombies included."""
        found = 0
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    found += entry.stat().st_uid == self.uid
                except OSError:
                    continue
        return found


def _limited() -> None:
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_NPROC, (MOST_PROCESSES, MOST_PROCESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
