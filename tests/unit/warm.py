"""Run commands in processes forked from one that has imported them.

Imports take most of the time of a short command. Its environment, umask, output, limits and exit
code are those of a process of its own, as with subprocess.run.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_forked = multiprocessing.get_context("forkserver")
_forked.set_forkserver_preload(
    ["cowtrace.__main__", "cowtrace.cli.report", "cowtrace.cli.run", "cowtrace.tracer"]
)


@dataclass(frozen=True, slots=True)
class _Setting:
    """What a process takes over from this one, since the one that it is forked from is older."""

    arguments: list[str]
    environ: dict[str, str]
    umask: int
    limits: Mapping[int, int]
    streams: tuple[str, str]  # paths of stdout and stderr


def run(
    main: Callable[[], object],
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    limits: Mapping[int, int] | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Call `main`, a function of a module, with these arguments of a command.

    `env` is added to the environment; `limits`: by the number of a resource, as RLIMIT_AS.
    """
    os.umask(umask := os.umask(0))
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        setting = _Setting(
            [*map(str, arguments)],
            {**os.environ, **(env or {})},
            umask,
            limits or {},
            (_path(out.fileno()), _path(err.fileno())),
        )
        process = _forked.Process(target=_call, args=(main, setting))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(setting.arguments, timeout)
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(
            setting.arguments, process.exitcode, out.read(), err.read()
        )


def _path(descriptor: int) -> str:
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _call(main: Callable[[], object], setting: _Setting) -> None:
    for descriptor, path in enumerate(setting.streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(setting.environ)
    os.umask(setting.umask)
    sys.argv = ["cowtrace", *setting.arguments]
    for what, most in setting.limits.items():
        resource.setrlimit(what, (most, most))
    main()
