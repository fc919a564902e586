"""Write the VM's second disk: a tar of the project's files and the command to run."""

from __future__ import annotations

import io
import os
import shlex
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cowtrace
from cowtrace.vm import GUEST, host_programs

BTF = ".cowtrace/btf"
_PACKAGE = Path(cowtrace.__file__).resolve().parent


def pack(
    disk: Path,
    command: Sequence[str],
    env: Mapping[str, str],
    terminal: os.terminal_size | None = None,
    btf: Path | None = None,
) -> None:
    """Write the disk: the project under cowtrace/, what the guest's PID 1 runs under .cowtrace/.

    terminal: its size, if the command has one. btf: type information for the kernel, if it shows
    none itself.
    """
    # GNU's format: busybox and GNU tar agree on it, for any length and encoding of a name.
    with tarfile.open(disk, "w", format=tarfile.GNU_FORMAT) as tar:
        for path, name in project_files():
            tar.add(path, f"cowtrace/{name}", recursive=False, filter=_as_root)
        add(tar, ".cowtrace/run", (GUEST / "run").read_bytes(), 0o755)
        if btf:
            add(tar, BTF, btf.read_bytes())
            env = {**env, "COWTRACE_BTF": f"/{BTF}"}
        add(tar, ".cowtrace/command", script(command, env))
        if terminal:
            size = f"cols {terminal.columns} rows {terminal.lines}\n"
            add(tar, ".cowtrace/terminal", size.encode())


def project_files() -> Iterator[tuple[Path, str]]:
    """(file, name relative to the project's folder) of every file that the guest gets.

    In a git checkout: files that git tracks or does not ignore. Otherwise: the package's files.
    """
    top = _PACKAGE.parent
    for name in _git_files(top) or _package_files(top):
        path = top / name
        if path.is_symlink() or path.is_file():  # skip files that are tracked but deleted
            yield path, name


def _git_files(top: Path) -> list[str]:
    """Relative names from git; empty if `top` is not a checkout of the project."""
    if not (top / ".git").exists() or not (top / "pyproject.toml").exists():
        return []
    listing = host_programs.output(
        # safe.directory: as root, git refuses another user's checkout.
        *("git", "-c", f"safe.directory={top}", "-C", str(top)),
        *("ls-files", "-z", "--cached", "--others", "--exclude-standard"),
    )
    return [name for name in listing.split("\0") if name]


def _package_files(top: Path) -> list[str]:
    """The package's own files; in an unpacked source tree its tests and BPF source as well."""
    folders = [_PACKAGE]
    if (top / "pyproject.toml").exists():
        folders += [top / name for name in ("bpf", "tests", "vagrant")]
    return [
        str(path.relative_to(top))
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    ]


def script(command: Sequence[str], env: Mapping[str, str]) -> bytes:
    """A shell script that executes the command; it keeps every byte of every argument."""
    exports = (f"export {name}={shlex.quote(value)}" for name, value in env.items())
    lines = ["echo $$ >/run/command.pid", *exports, "cd /cowtrace", f"exec {shlex.join(command)}"]
    return b"".join(os.fsencode(line) + b"\n" for line in lines)


def environment(
    kernel: str, host: Mapping[str, str], size: os.terminal_size | None
) -> dict[str, str]:
    """The command's environment: the VM's own, and from the host what a terminal needs."""
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PYTHONPATH": "/cowtrace",
        "COWTRACE_VM": "1",
        "COWTRACE_KERNEL": kernel,
    }
    env |= {name: host[name] for name in ("TERM", "COLORTERM", "NO_COLOR") if name in host}
    if size:
        env |= {"COLUMNS": str(size.columns), "LINES": str(size.lines)}
    else:
        env |= {name: host[name] for name in ("COLUMNS", "LINES") if name in host}
    return env


def add(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    """Add a file of root's, of time 0: the same bytes each time."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Make root the owner: the guest has no user with the host's uid."""
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info
