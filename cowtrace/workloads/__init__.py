"""Run workloads whose copy-on-write fault counts are known before they run.

    python -m cowtrace.workloads NAME --pages N     one outcome as a line of JSON

Every workload maps its memory at the same addresses, so a tracer that was attached beforehand
with region=(REGION_START, REGION_END) counts the workload's faults without those of its
interpreter.
"""

from __future__ import annotations

from contextlib import closing
from importlib import import_module

from cowtrace import child
from cowtrace.errors import CowtraceError
from cowtrace.workloads import settings
from cowtrace.workloads.features import EXIT_UNSUPPORTED, Unsupported
from cowtrace.workloads.outcome import Outcome, outcome_from_json
from cowtrace.workloads.stepped_child import Child
from cowtrace.workloads.workload import Workload, check_pages, find

for _name in ("forks", "claims", "mappings", "paths"):  # the order in which they are listed
    import_module(f"{__name__}.{_name}")  # adds its workloads to WORKLOADS


def run_forked(name: str, pages: int) -> Outcome:
    """Run a workload in a fork of this process, which must have no threads.

    For many workloads in a row: under emulation an interpreter takes seconds to start.
    """
    chosen = find(name)
    check_pages(chosen, pages)
    with settings.delay_accounting(), closing(Child(lambda: chosen)) as child:
        return child.do(Workload.run, pages)


def run(name: str, pages: int) -> Outcome:
    """Run a workload of `pages` pages in a fresh interpreter, to its end.

    Raises CowtraceError for an unknown name, fewer than 1 page, more than memory holds, or when
    the workload fails; Unsupported, a subclass, where the kernel or machine lacks what it needs.
    """
    check_pages(find(name), pages)
    import subprocess  # not needed by the interpreter that it starts

    arguments = name, "--pages", str(pages)
    with settings.delay_accounting():
        ended = subprocess.run(
            child.command("cowtrace.workloads", *arguments),
            env=child.environment(),
            capture_output=True,
            text=True,
        )
    if ended.returncode == 0:
        return outcome_from_json(ended.stdout)
    message, _, hint = ended.stderr.strip().rpartition("\n")
    message, hint = message.removeprefix("cowtrace: "), hint.removeprefix("Hint: ")
    if ended.returncode == EXIT_UNSUPPORTED:
        raise Unsupported(message, hint=hint)
    raise CowtraceError(
        f"workload {name} failed: {message or ended.returncode}",
        hint=hint or f"run it alone: python3 -m cowtrace.workloads {' '.join(arguments)}",
    )
