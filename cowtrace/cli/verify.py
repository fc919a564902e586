"""`cowtrace verify`: check common claims about fork and copy-on-write on this kernel."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any, TextIO

import click
from rich.text import Text

from cowtrace.cli import verify_baseline, verify_plans, verify_sides
from cowtrace.cli.attach import attach
from cowtrace.cli.options import Form, Lines, attach_option, form_options, lines_of, notice
from cowtrace.cli.vm import build_missing
from cowtrace.errors import EXIT_MISMATCH, CowtraceError
from cowtrace.files import private_file
from cowtrace.terminal.screen import show, spinner
from cowtrace.text import printable
from cowtrace.verify import html_page, junit, ktap, matrix, session, text_report, vms
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.differences import Difference
from cowtrace.verify.groups import Group, choose, groups, title
from cowtrace.vm import definition
from cowtrace.workloads.region import REGION_END, REGION_START
from cowtrace.workloads.workload import WORKLOADS


@click.command(
    epilog="\b\nExamples:\n"
    "  sudo cowtrace verify C1 C6 --kernel 5.10 --kernel 6.12\n"
    "  sudo cowtrace verify --compare 6.12 7.2\n"
    "  sudo cowtrace verify --kernel 7.2 --baseline 7.2.json --ktap -"
)
@click.argument("claims", nargs=-1, metavar="[CLAIM]...")
@click.option("--kernel", "kernels", multiple=True, metavar="K",
              help="Run in the test VM on this kernel; may be repeated.")  # fmt: skip
@click.option("--compare", nargs=2, metavar="A B",
              help="Say what differs between two: kernels of the VM, here, or FILE.json of "
              "--baseline.")  # fmt: skip
@click.option("--baseline", metavar="FILE",
              help="Say what changed since the results in this file; "
              "create a missing one.")  # fmt: skip
@click.option("--update", is_flag=True, help="Replace the results in the file of --baseline.")
@verify_plans.plans_option
@click.option("--html", metavar="FILE", help="Write an HTML page to this file.")
@click.option("--junit", "xml", metavar="FILE", help="Write JUnit XML for CI to this file.")
@click.option("--ktap", "tap", metavar="FILE",
              help="Write KTAP for kernel CI to this file; "
              "-: to stdout, and nothing else.")  # fmt: skip
@click.option("--list", "show_list", is_flag=True, help="List all claims and paths.")
@click.option("-v", "--verbose", is_flag=True, help="Show all evidence of each check.")
@attach_option
@form_options
def verify(
    claims: Sequence[str],
    kernels: Sequence[str],
    compare: tuple[str, str] | None,
    baseline: str | None,
    update: bool,
    plans: str | None,
    html: str | None,
    xml: str | None,
    tap: str | None,
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
    not hold, or if probe plans differ (--plans).

    With --compare, exit code 4 if something differs: as diff(1), which has 1.

    With --baseline and a file that exists, exit code 4 if something is worse than in it: a check
    that held and no longer does, that can no longer be seen, that is gone, or a new one that does
    not hold. What did not hold before is no reason. With --update, what is worse is none either.

    --csv has the checks alone; with --compare, the differences.
    """
    chosen = choose(groups(WORKLOADS), claims)
    lines = lines_of(form)
    if show_list:
        _list(chosen, lines)
        return
    verify_sides.require_together(compare, kernels, baseline, update, tap, form)
    names = frozenset(group.name for group in chosen) if claims else None
    known = definition.load() if kernels or compare else None
    for kernel in kernels:
        known and known.kernel(kernel)
    sides = verify_sides.sides(compare, known.kernel, names) if compare and known else None
    wanted = verify_sides.to_run(sides) if sides else kernels or (verify_sides.HERE,)
    by = verify_plans.plans_of(plans, plan)
    each_check = _nothing if sides or tap == "-" else lines
    written = lines if form != "csv" or sides else _nothing  # of differences
    words = sys.stderr if tap == "-" else None
    failures: list[CowtraceError] = []
    changes: dict[str, Sequence[Difference]] = {}
    with verify_baseline.opened(baseline, replace=update, groups=names) as kept:
        # Opened before the checks start: a bad path must not cost their results.
        with ExitStack() as files:
            reports = [
                (files.enter_context(_report(name)), text)
                for name, text in (
                    (html, partial(html_page.page, changes=changes)),
                    (xml, junit.junit),
                    (tap, ktap.ktap),
                )
                if name
            ]
            made = _made(known, wanted, chosen, claims, by, each_check, verbose, failures)
            bad = verify_plans.differ(made, written, words)
            if failures:
                pass  # what is missing is no difference
            elif sides:
                made = verify_sides.all_checks(sides, made)
                changes |= verify_sides.compare(made, written, words)
                bad = bad or any(changes.values())
            elif kept and kept.before is not None:
                since = kept.changes(made)
                changes |= verify_baseline.tell(since, kept.file, written, words)
                bad = bad or (not update and any(each.worse for each in since))
            else:
                checks = (check for one in made for check in one.checks)
                bad = bad or any(check.verdict is Verdict.FAILS for check in checks)
            for stream, text in reports:
                stream.write(text(made))
        if failures:
            raise failures[0]
        if kept:
            kept.keep(made)
    if bad:
        click.get_current_context().exit(EXIT_MISMATCH)


def _made(
    known: definition.Definition | None,
    kernels: Sequence[str],
    chosen: Sequence[Group],
    claims: Sequence[str],
    by: verify_plans.Plans,
    lines: Lines | None,
    verbose: bool,
    failures: list[CowtraceError],
) -> tuple[matrix.KernelChecks, ...]:
    """The checks of these kernels of the VM, and of this machine's if HERE is among them.

    `lines` gets each check; without it, they are shown.
    """
    made: tuple[matrix.KernelChecks, ...] = ()
    in_vms = [name for name in dict.fromkeys(kernels) if name != verify_sides.HERE]
    if known and in_vms:
        made = _in_vms(known, in_vms, (*claims, *by.arguments), lines, failures)
        if not lines:
            show(matrix.matrix(made))
    if verify_sides.HERE in kernels:
        made += (_here(chosen, by, lines, verbose),)
    return made


def _here(
    chosen: Sequence[Group], by: verify_plans.Plans, lines: Lines | None, verbose: bool
) -> matrix.KernelChecks:
    """Run all checks under one plan after the other."""
    made = by.each(lambda plan: _under(plan, chosen, lines, verbose))
    return matrix.KernelChecks(os.uname().release, tuple(itertools.chain(*made)), ())


def _under(
    plan: str, chosen: Sequence[Group], lines: Lines | None, verbose: bool
) -> tuple[Check, ...]:
    """Run all checks under one attachment; show each as soon as it is done."""
    region = (REGION_START, REGION_END)
    made: list[Check] = []
    with attach(plan, verbose=verbose, region=region, fork_copies=True, outcomes=True) as live:
        if not lines and plan != "auto":
            show(Text(f"plan {live.plan}", style="bold"))
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
    return tuple(made)


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
        error = ""
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
        except CowtraceError as failure:
            failures.append(failure)
            error = str(failure)
            notice(error)
        notice(f"kernel {kernel}: {len(seen)} checks, {time.monotonic() - start:.0f} s")
        versions = vms.versions(known, kernel)
        made.append(matrix.KernelChecks(kernel, tuple(seen), versions, error))
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


def _report(name: str) -> AbstractContextManager[TextIO]:
    """The file to write a report to; `-` is stdout."""
    return nullcontext(sys.stdout) if name == "-" else private_file(name)


def _nothing(_: Mapping[str, Any]) -> None:
    """Lines that nobody reads."""
