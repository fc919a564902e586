"""`cowtrace verify`: check common claims about fork and copy-on-write on this kernel."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack

import click
from rich.text import Text

from cowtrace.cli.attach import attach
from cowtrace.cli.options import Form, Lines, attach_option, form_options, lines_of, notice
from cowtrace.cli.vm import build_missing
from cowtrace.errors import EXIT_MISMATCH, CowtraceError
from cowtrace.files import private_file
from cowtrace.terminal.screen import show, spinner
from cowtrace.text import printable
from cowtrace.verify import html_page, junit, matrix, session, text_report, vms
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.groups import Group, choose, groups, title
from cowtrace.vm import definition
from cowtrace.workloads.region import REGION_END, REGION_START
from cowtrace.workloads.workload import WORKLOADS


@click.command(epilog="\b\nExample:\n  sudo cowtrace verify C1 C6 --kernel 5.10 --kernel 6.12")
@click.argument("claims", nargs=-1, metavar="[CLAIM]...")
@click.option("--kernel", "kernels", multiple=True, metavar="K",
              help="Run in the test VM on this kernel; may be repeated.")  # fmt: skip
@click.option("--html", metavar="FILE", help="Write an HTML page to this file.")
@click.option("--junit", "xml", metavar="FILE", help="Write JUnit XML for CI to this file.")
@click.option("--list", "show_list", is_flag=True, help="List all claims and paths.")
@click.option("-v", "--verbose", is_flag=True, help="Show all evidence of each check.")
@attach_option
@form_options
def verify(
    claims: Sequence[str],
    kernels: Sequence[str],
    html: str | None,
    xml: str | None,
    show_list: bool,
    verbose: bool,
    plan: str,
    form: Form,
) -> None:
    """Check common claims about fork and copy-on-write on this kernel.

    CLAIM is one of C1 to C8, or the name of a path by which Linux copies, or does not copy, on
    write; by default all are checked. Each check runs a workload whose counts are known. It
    compares the trace with these counts and with oracles that do not use the trace: frame numbers
    in /proc/PID/pagemap, the kernel's own counters, the data as each side reads it.

    With --kernel, one table shows the claims against the kernels. Exit code 4 if a claim does
    not hold.
    """
    chosen = choose(groups(WORKLOADS), claims)
    lines = lines_of(form)
    if show_list:
        _list(chosen, lines)
        return
    known = definition.load() if kernels else None
    for kernel in kernels:
        known and known.kernel(kernel)
    failures: list[CowtraceError] = []
    # Opened before the checks start: a bad path must not cost their results.
    with ExitStack() as files:
        reports = [
            (files.enter_context(private_file(name)), text)
            for name, text in ((html, html_page.page), (xml, junit.junit))
            if name
        ]
        if known:
            in_order = tuple(dict.fromkeys(kernels))
            made = _in_vms(known, in_order, (*claims, "--attach", plan), lines, failures)
            if not lines:
                show(matrix.matrix(made))
        else:
            made = (_here(chosen, plan, lines, verbose),)
        for stream, text in reports:
            stream.write(text(made))
    if failures:
        raise failures[0]
    if any(check.verdict is Verdict.FAILS for one in made for check in one.checks):
        click.get_current_context().exit(EXIT_MISMATCH)


def _here(
    chosen: Sequence[Group], plan: str, lines: Lines | None, verbose: bool
) -> matrix.KernelChecks:
    """Run all checks under one attachment; show each as soon as it is done."""
    region = (REGION_START, REGION_END)
    made: list[Check] = []
    with attach(plan, verbose=verbose, region=region, fork_copies=True, outcomes=True) as live:
        group = ""
        for check in session.checks(chosen, live.snapshot):
            made.append(check)
            if lines:
                lines(check.as_dict())
                continue
            if check.group != group:
                group = check.group
                show(text_report.heading(group))
            show(text_report.entry(check, verbose=verbose))
    if not lines:
        show(text_report.summary(made))
    return matrix.KernelChecks(os.uname().release, tuple(made), ())


def _in_vms(
    known: definition.Definition,
    kernels: Sequence[str],
    arguments: Sequence[str],
    lines: Lines | None,
    failures: list[CowtraceError],
) -> tuple[matrix.KernelChecks, ...]:
    """Build what is missing, then verify on one kernel after the other with these arguments.

    If a kernel fails, keep its checks so far, add the error to `failures`, and run the next one.
    `lines` gets each check at once, with the kernel's name as `vm`.
    """
    build_missing(known, kernels)
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
        made.append(matrix.KernelChecks(kernel, tuple(seen), vms.versions(known, kernel)))
    return tuple(made)


def _list(chosen: Sequence[Group], lines: Lines | None) -> None:
    for group in chosen:
        if lines:
            names = [workload.name for workload in group.workloads]
            lines({"group": group.name, "title": title(group.name), "workloads": names})
            continue
        show(Text(title(group.name), style="bold"))
        for workload in group.workloads:
            show(Text(f"  {workload.name}: {workload.claim}"))
