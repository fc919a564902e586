"""Start commands where everything around them is hostile: folder, terminal, disk, arguments."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from command import COWTRACE

from attack.attacker import Attacker
from attack.commands import ENDS_SECONDS, end_now

_NAME = "\x1b[31mPWN\x1b]0;x\x07\n\x9b31m"
_CONTROL = "\x1b\x07\x9b"
_PATIENCE = 60.0
_BEFORE_ANYTHING = "import os\nos._exit(77)\n"  # a module of the attacker's that is imported


def _run(*arguments: str, **how: object) -> subprocess.CompletedProcess[str]:
    how.setdefault("timeout", _PATIENCE)
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [*COWTRACE, *arguments], capture_output=True, text=True, errors="replace", **how
    )


def _unsafe(ended: subprocess.CompletedProcess[str], *codes: int) -> list[str]:
    found = []
    if ended.returncode not in codes:
        found.append(f"exit code {ended.returncode}: {ended.stderr.strip()[-200:]!r}")
    if "Traceback" in ended.stderr:
        found.append(f"a traceback: {ended.stderr.strip().splitlines()[-1]!r}")
    if any(each in ended.stderr + ended.stdout for each in _CONTROL):
        found.append("control characters are written as they are")
    return found


def disk_full(folder: Path) -> Iterator[str]:
    """The recording's file system has 300 KiB."""
    small = folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "attack", str(small)], check=True)
    try:
        fork = "import os\nwhile True: os.fork() or os._exit(0); os.wait()"
        forks = ["timeout", "10", "/usr/bin/python3", "-c", fork]
        ended = _run("record", "-o", str(small / "x.cow"), "--interval", "0.1", "--", *forks)
        yield from _unsafe(ended, 6)
        yield from _unsafe(_run("report", str(small / "x.cow")), 0)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def reader_gone(folder: Path) -> Iterator[str]:
    with subprocess.Popen(
        [*COWTRACE, "top", "--json", "0.2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as top:
        assert top.stdout
        assert top.stderr
        top.stdout.readline()
        top.stdout.close()
        try:
            top.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            top.kill()
            yield "it goes on after its reader has gone"
        if said := top.stderr.read():
            yield f"it says {said[-200:]!r}"


def terminal(folder: Path) -> Iterator[str]:
    """Sizes of all kinds, thousands of times, on a terminal of a hostile name."""
    leader, follower = pty.openpty()
    environment = os.environ | {"TERM": _NAME, "COLUMNS": "-1", "LINES": "99999999999999999999"}
    with subprocess.Popen(
        [*COWTRACE, "top", "0.2"], stdin=follower, stdout=follower, stderr=follower, env=environment
    ) as top:
        os.close(follower)
        os.set_blocking(leader, False)
        time.sleep(2)  # until it draws
        shown, end = b"", time.monotonic() + 4
        sizes = [(0, 0), (1, 1), (65535, 65535), (1, 65535), (24, 80), (2, 3)]
        turn = 0
        while time.monotonic() < end and top.poll() is None:
            turn += 1
            size = struct.pack("HHHH", *sizes[turn % len(sizes)], 0, 0)
            fcntl.ioctl(leader, termios.TIOCSWINSZ, size)
            top.send_signal(signal.SIGWINCH)
            shown += _read(leader)
            time.sleep(0.001)
        if top.poll() is not None:
            yield f"it ended with {top.returncode}: {shown[-300:]!r}"
        top.terminate()
        end = time.monotonic() + ENDS_SECONDS
        while top.poll() is None and time.monotonic() < end:
            shown += _read(leader)
            time.sleep(0.01)
        if top.poll() is None:
            yield "it is deaf to SIGTERM"
            end_now(top)
        if b"Traceback" in shown:
            yield f"a traceback: {shown[-300:]!r}"
    os.close(leader)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # nothing now; EIO: its last writer has gone
        return b""


def folder_with_modules(folder: Path) -> Iterator[str]:
    """The working directory has modules of the names that are imported."""
    for name in ("click", "rich", "json", "cowtrace", "sitecustomize", "usercustomize", "signal"):
        (folder / f"{name}.py").write_text(_BEFORE_ANYTHING)
    installed = Path(COWTRACE[0]).with_name("cowtrace")
    ended = subprocess.run(
        [str(installed), "top", "--json", "0.1", "1"], cwd=folder, capture_output=True, check=False
    )
    if ended.returncode:
        yield f"it ran what is in the working directory: {ended.returncode}"


def odd_environment(folder: Path) -> Iterator[str]:
    odd = {
        "LC_ALL": "\x1b[31m", "LANG": "../../../../tmp", "LANGUAGE": "%s%n" * 99, "TERM": _NAME,
        "COLUMNS": "1" * 5000, "PAGER": "touch pwned", "HOME": "/proc/self/fd/9",
        "TMPDIR": "/nowhere",
        "PYTHONIOENCODING": "utf-16", "NO_COLOR": _NAME, "FORCE_COLOR": "1", "PATH": "",
    }  # fmt: skip
    for arguments in (("top", "0.1", "1"), ("stacks", "0.1", "1"), ("maps", "0.1", "1")):
        ended = _run(*arguments, env=odd, cwd=folder)
        yield from (f"{arguments[0]}: {each}" for each in _unsafe(ended, 0, 1))
    if (folder / "pwned").exists():
        yield "it ran $PAGER where there is no terminal"


def names_in_arguments(folder: Path) -> Iterator[str]:
    program = folder / ("x" + _NAME.replace("/", "") * 8)
    program.write_text("#!/bin/sh\nexit 23\n")
    program.chmod(0o755)
    yield from _unsafe(_run("run", "--", str(program), _NAME), 23)
    yield from _unsafe(_run("run", "--", _NAME), 127)
    yield from _unsafe(_run("record", "-o", str(folder / f"{_NAME}.cow"), "--", _NAME), 127)
    for arguments in (
        ("report", _NAME),
        ("top", "--cgroup", _NAME),
        ("stacks", "-o", f"/{_NAME}/x"),
    ):
        yield from _unsafe(_run(*arguments), 1, 2)


def command_ends_all(folder: Path) -> Iterator[str]:
    """A COMMAND that kills its group, closes everything, or leaves children behind."""
    yield from _unsafe(_run("run", "--", "sh", "-c", "kill -KILL $$"), 137)
    yield from _unsafe(_run("run", "--", "sh", "-c", "exec 0<&- 1>&- 2>&-; exit 7"), 7)
    ended = _run("run", "--", "sh", "-c", "(sleep 1; kill -CONT $$) & kill -STOP $$; exit 9")
    yield from _unsafe(ended, 9)


def pipe_for_a_file(folder: Path) -> Iterator[str]:
    """Where a file is expected there is a pipe, a device or a folder."""
    os.mkfifo(folder / "pipe.cow")
    for name in (str(folder / "pipe.cow"), str(folder), "/dev/zero", "/proc/self/mem"):
        for arguments in (
            ("report", name),
            ("diff", name, name),
            ("record", "-o", name, "--", "true"),
        ):
            try:
                yield from _unsafe(_run(*arguments, timeout=20.0), 1, 2)
            except subprocess.TimeoutExpired:
                yield f"{arguments[0]} hangs at {Path(name).name}"


def lost_race(folder: Path, attacker: Attacker) -> Iterator[str]:
    """The user whose folder a recording goes to swaps the file for a link, at any moment."""
    theirs, root_only = folder / "theirs", folder / "root-only"
    theirs.mkdir()
    root_only.mkdir(mode=0o700)
    os.chown(theirs, attacker.uid, attacker.uid)
    race = attacker.start(theirs, ["race", ".", str(root_only / "made"), "30"])
    try:
        for _ in range(2):
            ended = _run("record", "-o", str(theirs / "x.cow"), "--for", "0.1")
            yield from _unsafe(ended, 0, 1)
            if made := [*root_only.iterdir()]:
                yield f"root created {made[0].name} elsewhere, mode {made[0].stat().st_mode:o}"
                return
            for left in theirs.glob("x.cow*"):
                left.unlink(missing_ok=True)
    finally:
        race.kill()


WITHOUT_USER: tuple[Callable[[Path], Iterator[str]], ...] = (
    disk_full, reader_gone, terminal, folder_with_modules, odd_environment, names_in_arguments,
    command_ends_all, pipe_for_a_file,
)  # fmt: skip
NAMES = (*(each.__name__ for each in WITHOUT_USER), lost_race.__name__)


def problems(name: str, folder: Path, attacker: Attacker) -> list[str]:
    """What went wrong with one of NAMES, in a new folder."""
    place = folder / name
    place.mkdir(mode=0o755)
    if name == lost_race.__name__:
        return [*lost_race(place, attacker)]
    return [*next(each for each in WITHOUT_USER if each.__name__ == name)(place)]
