"""Start, drive and stop a real application; nothing is left however the test ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from command import PATIENCE

from cowtrace.workloads.settings import restored_by

PYTHON = "/usr/bin/python3"  # Debian's, which sees Debian's gunicorn
# A folder of an application that still writes when its end has come is not empty at once.
_REMOVE = 'for try in 1 2 3 4 5; do rm -rf "$1" && exit; sleep 1; done'


@dataclass(frozen=True)
class Application:
    """A running application; its pid is that of the process that was started."""

    process: subprocess.Popen[bytes]
    folder: Path
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for it; fails with the end of the log when the application, or PATIENCE, ends."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                end = self.log.read_text(errors="replace")[-2000:]
                raise AssertionError(f"{what}: not within {PATIENCE} s, or it ended:\n{end}")
            time.sleep(0.05)


def get(address: Path, path: str) -> dict[str, int]:
    """The JSON that a web server at a UNIX socket answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(address))
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: cowtrace\r\n\r\n".encode())
        answer = connection.makefile("rb").read()
    assert answer.partition(b"\r\n")[0].endswith(b" 200 OK"), answer
    body: dict[str, int] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return body


@contextmanager
def scratch(owner: str = "root") -> Iterator[Path]:
    """A new folder, removed at the end of the block and of this process, SIGKILL included."""
    folder = Path(tempfile.mkdtemp(prefix="cowtrace-test-"))
    with restored_by(_REMOVE, str(folder)):
        shutil.chown(folder, owner, owner)
        yield folder


@contextmanager
def running(
    command: Sequence[str | Path],
    folder: Path,
    *,
    user: str = "root",
    env: Mapping[str, str] | None = None,
    end: signal.Signals = signal.SIGTERM,
) -> Iterator[Application]:
    """Start it as `user` in `folder`; the signal `end` stops it, also if this process is killed."""
    log = folder / "log"
    privileges = ["--reuid", user, "--regid", user, "--init-groups"] if user != "root" else []
    death = ["--pdeathsig", end.name.removeprefix("SIG")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", *privileges, *death, "--", *map(str, command)],
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a ^C is for the test, which ends the application in order
        )
    try:
        yield Application(process, folder, log)
    finally:
        process.send_signal(end)
        try:
            process.wait(PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def output(*command: str | Path, user: str | None = None) -> str:
    """Return what a client program prints; fail with its error output."""
    ended = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        user=user,
        stdin=subprocess.DEVNULL,
        cwd="/",
    )
    assert ended.returncode == 0, (command, ended.stdout[-2000:], ended.stderr[-2000:])
    return ended.stdout


def children(pid: int) -> list[int]:
    """PIDs of its children that are alive."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
