"""Change system settings for a workload, and restore them when it ends, even by SIGKILL.

A shell waits for the end of a pipe that only the workload's processes hold, then restores. It is
another program, so it shares no pages with the workload; even so, settings come before the region.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

from cowtrace import child
from cowtrace.workloads.features import Unsupported

_RESTORE = 'while [ $# -gt 1 ]; do printf %s "$2" >"$1"; shift 2; done'


@contextmanager
def restored_by(script: str, *arguments: str, locks: Iterable[int] = ()) -> Iterator[None]:
    """Have sh run `script` with these arguments when the block, or this process, has ended.

    The shell takes over the file descriptors `locks`, and closes them when it has restored.
    """
    guardian = subprocess.Popen(
        ["sh", "-c", f"trap '' HUP INT TERM; read -r _; {script}", "cowtrace", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        env=child.environment(),
        pass_fds=tuple(locks),
    )
    for lock in locks:
        os.close(lock)
    try:
        yield
    finally:
        assert guardian.stdin
        guardian.stdin.close()
        guardian.wait()


@contextmanager
def changed(values: Mapping[str, str]) -> Iterator[None]:
    """Write these values to files of /proc or /sys, in order; restore the old ones, in reverse.

    Waits for another run that has changed them. Reads the selected word of a file with choices
    (`always [madvise] never`). Raises Unsupported where a file is missing or cannot be
    written.
    """
    locks = [_locked(path) for path in values]
    before = [text for path in reversed(list(values)) for text in (path, read(path))]
    with restored_by(_RESTORE, *before, locks=locks):
        for path, value in values.items():
            write(path, value)
        yield


def _locked(path: str) -> int:
    """Root locks files that only root can open: any user who can read a setting can lock it."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    if os.geteuid() == 0 and path.startswith(("/proc/", "/sys/")):
        path, flags = f"/run/cowtrace{path.replace('/', '-')}.lock", flags | os.O_CREAT
    try:
        file = os.open(path, flags | os.O_NOFOLLOW, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        raise Unsupported(f"{path}: {error.strerror}") from error
    return file


def read(path: str) -> str:
    """The value of a setting; raises Unsupported where it does not exist."""
    try:
        text = Path(path).read_text(encoding="ascii").strip()
    except OSError as error:
        raise Unsupported(f"{path}: {error.strerror}") from error
    return text.partition("[")[2].partition("]")[0] or text


def write(path: str, value: str) -> None:
    """Change a setting; raises Unsupported when the kernel refuses."""
    try:
        Path(path).write_text(value, encoding="ascii")
    except OSError as error:
        raise Unsupported(f"cannot write {value} to {path}: {error.strerror}") from error


def delay_accounting() -> AbstractContextManager[None]:
    """Turn it on, if permitted, for processes created in the block: see oracles/taskstats.py."""
    path = "/proc/sys/kernel/task_delayacct"
    off = os.access(path, os.W_OK) and read(path) == "0"
    return changed({path: "1"}) if off else nullcontext()


@contextmanager
def swap(size_bytes: int) -> Iterator[None]:
    """Add a swap device: compressed memory (zram), or else a file; raises Unsupported."""
    with ExitStack() as stack:
        try:
            stack.enter_context(_zram_swap(size_bytes))
        except Unsupported:  # no zram in this kernel, or no compressor for it
            stack.enter_context(_file_swap(size_bytes))
        yield


@contextmanager
def _file_swap(size_bytes: int) -> Iterator[None]:
    import tempfile  # slow to import, and few need it

    # Not in a folder of all users: what they put there under its name would be turned off.
    folder = tempfile.mkdtemp(prefix="cowtrace-swap-", dir="/var/tmp")
    path = f"{folder}/swap"
    with restored_by('swapoff "$1"; rm -r "$2"', path, folder):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        for _ in range(0, size_bytes, 1 << 20):  # a swap file must not have holes
            os.write(file, bytes(1 << 20))
        os.close(file)
        run("mkswap", path)
        run("swapon", "--priority", "32767", path)
        yield


@contextmanager
def _zram_swap(size_bytes: int) -> Iterator[None]:
    control = Path("/sys/class/zram-control")
    if not control.exists():
        run("modprobe", "zram", "num_devices=0")
    number = read(f"{control}/hot_add")  # reading creates a device, and returns its number
    device = f"/dev/zram{number}"
    script = 'swapoff "$1"; printf %s "$2" >"$3"'
    with restored_by(script, device, number, f"{control}/hot_remove"):
        write(f"/sys/block/zram{number}/disksize", str(size_bytes))
        run("mkswap", device)
        run("swapon", "--priority", "32767", device)
        yield


@contextmanager
def memory_cgroup() -> Iterator[tuple[Path, str]]:
    """Create a cgroup with the memory controller: its folder, and the file name of its limit."""
    root, limit = Path("/sys/fs/cgroup"), "memory.max"
    with ExitStack() as stack:
        if (root / "memory" / "memory.limit_in_bytes").exists():  # cgroup v1
            root, limit = root / "memory", "memory.limit_in_bytes"
        else:
            if "memory" not in read(f"{root}/cgroup.controllers").split():
                raise Unsupported("there is no cgroup with the memory controller")
            control = f"{root}/cgroup.subtree_control"
            lock = _locked(control)
            before = "+memory" if "memory" in read(control).split() else "-memory"
            stack.enter_context(restored_by(_RESTORE, control, before, locks=[lock]))
            write(control, "+memory")
        folder = root / f"cowtrace-{os.getpid()}"
        stack.enter_context(restored_by('rmdir "$1"', str(folder)))
        folder.mkdir()
        yield folder, limit


def run(*command: str) -> None:
    """Run a program of the system; raises Unsupported when it fails, or is not installed."""
    try:
        ended = subprocess.run(command, env=child.environment(), capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Unsupported(f"there is no program {command[0]}") from error
    if ended.returncode:
        why = ended.stderr.strip().rpartition("\n")[2] or f"exit code {ended.returncode}"
        raise Unsupported(f"{' '.join(command)}: {why}")
