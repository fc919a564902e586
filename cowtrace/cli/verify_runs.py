"""Run the checks of `cowtrace verify`: on this machine, or on kernels of the VM one by one."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from cowtrace.cli import kernels as vm_kernels
from cowtrace.cli import verify_plans
from cowtrace.cli.attach import attach
from cowtrace.cli.kernels import Machine
from cowtrace.cli.options import Lines, notice
from cowtrace.cli.verify_reports import Reports
from cowtrace.errors import CowtraceError
from cowtrace.terminal.screen import show, spinner
from cowtrace.text import printable
from cowtrace.verify import matrix, session, text_report, vms
from cowtrace.verify.check import Check
from cowtrace.verify.groups import Group, title
from cowtrace.vm.definition import Definition
from cowtrace.workloads.region import REGION_END, REGION_START

HERE = "here"  # this machine's own kernel


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is checked, and how the results are shown while they come."""

    groups: Sequence[Group]
    claims: Sequence[str]  # the words that chose these groups
    by: verify_plans.Plans
    lines: Lines | None  # gets each check; without it, they are shown
    verbose: bool


@dataclass(frozen=True, slots=True)
class Vms:
    """The kernels that the VM can boot, and the machine that boots them."""

    known: Definition
    machine: Machine
    make_options: str | None  # None: trees are not built

    def is_own(self, kernel: str) -> bool:
        """True for a path. Raises CowtraceError for what is neither a path nor a known name."""
        return vm_kernels.is_own(self.known, kernel)

    def prepare(self, kernel: str) -> tuple[str, ...]:
        """Make a kernel ready to boot; the exact versions of what the VM runs, a line each."""
        if not self.is_own(kernel):
            return vms.versions(self.known, kernel)
        if self.make_options is not None:
            vm_kernels.make_tree(kernel, self.make_options)
        prepared = vm_kernels.prepare(self.known, kernel, self.machine)
        vm_kernels.notice_lacking(prepared)
        return (prepared.versions,)


def made(
    chosen: Chosen,
    kernels: Mapping[str, str],
    booting: Vms | None,
    failures: list[CowtraceError],
    reports: Reports,
) -> dict[str, matrix.KernelChecks]:
    """The checks of these kernels, by name or path; HERE is this machine's.

    kernels: see `labels`. `reports` gets each check at once. If a kernel fails, keep its checks so
    far, add the error to `failures`, and run the next one.
    """
    found: dict[str, matrix.KernelChecks] = {}
    in_vms = {kernel: label for kernel, label in kernels.items() if kernel != HERE}
    if booting and in_vms:
        vm_kernels.build_missing(
            booting.known, [kernel for kernel in in_vms if not booting.is_own(kernel)]
        )
        for kernel, label in in_vms.items():
            reports.begin(label)
            found[kernel] = _in_vm(chosen, kernel, label, booting, failures, reports)
            reports.end(found[kernel])
        if not chosen.lines:
            show(matrix.matrix(tuple(found.values())))
    if HERE in kernels:
        reports.begin(kernels[HERE])
        checks = chosen.by.each(lambda plan: _under(plan, chosen, reports))
        in_order = tuple(itertools.chain(*checks))
        found[HERE] = matrix.KernelChecks(kernels[HERE], in_order, ())
        reports.end(found[HERE])
    return found


def labels(kernels: Sequence[str], booting: Vms | None) -> dict[str, str]:
    """What tables call each kernel, in the order in which they run: those in the VM first.

    Of a path its last part, where that is not another's too; of HERE its release.
    """
    in_vms = [name for name in dict.fromkeys(kernels) if name != HERE]
    short = {
        each: Path(each).resolve().name if booting and booting.is_own(each) else each
        for each in in_vms
    }
    taken = [*short.values()]
    found = {each: name if taken.count(name) == 1 else each for each, name in short.items()}
    return found | ({HERE: os.uname().release} if HERE in kernels else {})


def _in_vm(
    chosen: Chosen,
    kernel: str,
    label: str,
    booting: Vms,
    failures: list[CowtraceError],
    reports: Reports,
) -> matrix.KernelChecks:
    """`lines` gets each check at once, with the kernel as `vm`."""
    seen: list[Check] = []
    versions: tuple[str, ...] = ()
    error = ""
    name = printable(label)
    arguments = (*chosen.claims, *chosen.by.arguments)
    start = time.monotonic()
    try:
        versions = booting.prepare(kernel)
        start = time.monotonic()  # without a tree's build
        with spinner(f"kernel {name}: booting") as status:
            if not status:
                notice(f"kernel {name}: booting")
            for check in vms.checks_on(kernel, arguments, booting.machine.arguments()):
                reports.check(check)
                seen.append(check)
                if status:
                    status.update(Text(f"kernel {name}: {printable(title(check.group))}"))
                if chosen.lines:
                    chosen.lines({**check.as_dict(), "vm": kernel})
    except CowtraceError as failure:
        failures.append(failure)
        error = str(failure)
        notice(error)
    notice(f"kernel {name}: {len(seen)} checks, {time.monotonic() - start:.0f} s")
    return matrix.KernelChecks(label, tuple(seen), versions, error)


def _under(plan: str, chosen: Chosen, reports: Reports) -> tuple[Check, ...]:
    """Run all checks under one attachment; show each as soon as it is done."""
    region, lines = (REGION_START, REGION_END), chosen.lines
    checks: list[Check] = []
    with attach(
        plan, verbose=chosen.verbose, region=region, fork_copies=True, outcomes=True
    ) as live:
        if not lines and plan != "auto":
            show(Text(f"plan {live.plan}", style="bold"))
        group = ""
        for check in session.checks(chosen.groups, live.snapshot):
            checks.append(check)
            reports.check(check)
            if lines:
                lines(check.as_dict())
                continue
            if check.group != group:
                group = check.group
                show(text_report.heading(group))
            show(text_report.entry(check, verbose=chosen.verbose))
    if not lines:
        show(text_report.summary(checks))
    return tuple(checks)
