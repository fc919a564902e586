"""Run checks in the test VM, one boot per kernel; show the progress on stderr."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text

from cowtrace.cli.options import Lines, notice
from cowtrace.errors import CowtraceError
from cowtrace.terminal.screen import spinner
from cowtrace.text import printable
from cowtrace.verify import vms
from cowtrace.verify.check import Check
from cowtrace.verify.groups import title
from cowtrace.verify.matrix import KernelChecks
from cowtrace.vm import build, progress
from cowtrace.vm.definition import Definition


def in_vms(
    known: Definition,
    kernels: Sequence[str],
    arguments: Sequence[str],
    lines: Lines | None,
    failures: list[CowtraceError],
) -> tuple[KernelChecks, ...]:
    """Build what is missing, then verify on one kernel after the other with these arguments.

    If a kernel fails, its checks so far are kept, the error is added to `failures`, and the next
    kernel runs. `lines` gets each check at once, with the kernel's name as `vm`.
    """
    missing = build.missing(known, kernels)
    with progress.shown(len(missing)) as watcher:
        build.build(known, missing, watcher)
    made = []
    for kernel in kernels:
        seen: list[Check] = []
        start = time.monotonic()
        try:
            with spinner(f"kernel {kernel}: booting") as status:
                if not status:
                    notice(f"kernel {kernel}: booting")
                for check in vms.checks_on(kernel, arguments):
                    seen.append(check)
                    if status:
                        status.update(Text(f"kernel {kernel}: {printable(title(check.group))}"))
                    if lines:
                        lines({**check.as_dict(), "vm": kernel})
        except CowtraceError as error:
            failures.append(error)
            notice(str(error))
        notice(f"kernel {kernel}: {len(seen)} checks, {time.monotonic() - start:.0f} s")
        made.append(KernelChecks(kernel, tuple(seen), vms.versions(known, kernel)))
    return tuple(made)
