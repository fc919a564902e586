"""Build a kernel tree by its own make, as the tree's owner."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.text import printable
from cowtrace.vm import VmError, host_programs, kconfig, own_config
from cowtrace.vm.guest_arch import native

_ERROR = re.compile(r"\berror\b[: ]|undefined reference|No rule to make target")
# The option that names a tree's architecture: make's name of it, the image's target.
_ARCHES = {"CONFIG_X86_64": ("x86_64", "bzImage"), "CONFIG_ARM64": ("arm64", "Image")}
_MAKE_NAMES = {"amd64": "x86_64", "arm64": "arm64"}


def build(tree: Path, more: Sequence[str], log: Path, on_line: Callable[[str], None]) -> None:
    """Build what has changed: the image and the modules. Options that are new get their default.

    more: further arguments, such as `LLVM=1`. Raises CowtraceError when it does not build.
    """
    config = tree / ".config"
    if not config.is_file():
        raise CowtraceError(
            f"{tree} has no .config",
            hint="make one, with what the VM needs: cowtrace vm config",
            exit_code=EXIT_USAGE,
        )
    host_programs.find("make")
    log.write_text("")
    first: list[str] = []

    def note(line: str) -> None:
        on_line(line)
        if not first and _ERROR.search(line):
            first.append(line)

    try:
        for command in commands(tree, own_config.text_of(config), more):
            host_programs.run(
                command, log, what="make", env=_environment(tree), on_line=note, cwd=tree
            )
    except VmError as error:
        why = printable(first[0]) if first else str(error)
        raise VmError(f"{tree.name} does not build: {why}", hint=f"see {log}") from error


def commands(tree: Path, config: str, more: Sequence[str] = ()) -> tuple[tuple[str, ...], ...]:
    """The commands that build a tree with this .config."""
    chosen = kconfig.set_options(config)
    arch, image = next(
        (names for option, names in _ARCHES.items() if option in chosen), _ARCHES["CONFIG_X86_64"]
    )
    here = native()
    named = [] if here and _MAKE_NAMES.get(here.debian) == arch else [f"ARCH={arch}"]
    clang = ["LLVM=1"] if "CONFIG_CC_IS_CLANG" in chosen else []
    modules = ["modules"] if "CONFIG_MODULES" in chosen else []
    make = (*_as_owner(tree), "make", *named, *clang, *more)
    jobs = f"-j{len(os.sched_getaffinity(0))}"
    return (*make, "olddefconfig"), (*make, jobs, image, *modules)


def _as_owner(tree: Path) -> tuple[str, ...]:
    """Root builds nothing with another user's files as root."""
    status = tree.stat()
    if os.geteuid() != 0 or status.st_uid == 0:
        return ()
    return (
        *("setpriv", f"--reuid={status.st_uid}", f"--regid={status.st_gid}", "--clear-groups"),
        *("--inh-caps=-all", "--no-new-privs", "--pdeathsig", "KILL"),
    )


def _environment(tree: Path) -> dict[str, str]:
    """HOME is the owner's: ccache keeps its files there."""
    try:
        return {"HOME": pwd.getpwuid(tree.stat().st_uid).pw_dir}
    except KeyError:  # the owner is in no user database
        return {"HOME": "/nonexistent"}
