"""Find and run the programs that the VM needs; name the Debian package of a missing one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cowtrace import child
from cowtrace.vm import VmError

PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-riscv64": "qemu-system-misc opensbi",
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-riscv64-static": "qemu-user-static",
    "arch-test": "arch-test",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "cpio": "cpio",
    "depmod": "kmod",
    "qemu-img": "qemu-utils",
    "zstd": "zstd",
    "lz4": "lz4",
    "make": "make",
    "vagrant": "vagrant-libvirt libvirt-daemon-system",
}
_PATH = child.search_path()


def find(name: str) -> str:
    """The program's path. Raises CowtraceError with the package to install if it is missing."""
    if path := shutil.which(name, path=_PATH):
        return path
    raise VmError(
        f"{name} is missing: the test VM needs it", hint=f"run: apt-get install {PACKAGES[name]}"
    )


def environment() -> dict[str, str]:
    """With the PATH that finds them."""
    return os.environ | {"PATH": _PATH}


def quietly(*argv: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end. Raises FileNotFoundError if it is not installed."""
    return subprocess.run(argv, env=environment(), capture_output=True, check=False)


def output(*argv: str) -> str:
    """What a program writes to stdout; empty if it is not installed."""
    try:
        return os.fsdecode(quietly(*argv).stdout)
    except FileNotFoundError:
        return ""


def tied(argv: Sequence[str]) -> list[str]:
    """The command, set up so that it is killed when this process dies, even by SIGKILL."""
    return ["setpriv", "--pdeathsig", "KILL", *argv]


def isolated(argv: Sequence[str]) -> list[str]:
    """The command in its own mount and PID namespaces: both vanish when it ends.

    The command unchanged if this system refuses namespaces: then it cannot mount anything either.
    """
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    possible = quietly(*unshare, "true").returncode == 0
    return [*unshare, *argv] if possible else list(argv)


def run(
    argv: Sequence[str],
    log: Path,
    *,
    what: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    quiet: bool = False,
    keep_open: Sequence[int] = (),
    on_line: Callable[[str], None] = lambda line: None,
) -> None:
    """Run a build step; append its output to `log`, and pass each line to `on_line`.

    env: added to the environment. quiet: do not call `on_line`. keep_open: file descriptors
    that it inherits. Raises CowtraceError if it fails, with its first error message or else its
    last line. An interrupt kills it first.
    """
    last = error = ""
    with (
        log.open("a", encoding="utf-8") as out,
        subprocess.Popen(
            tied(argv),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment() | {"LC_ALL": "C.UTF-8"} | dict(env or {}),
            pass_fds=keep_open,
        ) as process,
    ):
        assert process.stdout
        try:
            for line in process.stdout:
                out.write(line)
                if line.strip():
                    last = line.strip()
                    if last.startswith("E: "):  # apt's and mmdebstrap's mark; the rest follows
                        error = error or last.removeprefix("E: ")
                    if not quiet:
                        on_line(last)
        except BaseException:
            process.kill()
            process.stdout.read()  # until the last of its children ends
            raise
    if process.returncode:
        raise VmError(
            f"{what} failed: {error or last or f'exit code {process.returncode}'}",
            hint=f"its whole output is in {log}",
        )
