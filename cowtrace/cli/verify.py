"""`cowtrace verify`: check common claims about fork and copy-on-write on this kernel."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.text import Text

from cowtrace.cli import (
    verify_baseline,
    verify_plans,
    verify_reports,
    verify_runs,
    verify_sides,
)
from cowtrace.cli.kernels import Machine, machine_options
from cowtrace.cli.options import Form, Lines, attach_option, form_options, lines_of, notice
from cowtrace.errors import EXIT_UNTESTABLE, CowtraceError
from cowtrace.terminal.screen import show
from cowtrace.verify import exit_codes
from cowtrace.verify.check import Verdict
from cowtrace.verify.differences import Difference
from cowtrace.verify.groups import Group, choose, groups, title
from cowtrace.verify.ktap_plan import planned
from cowtrace.vm import definition, own_kernel
from cowtrace.workloads.workload import WORKLOADS


@click.command(
    epilog="\b\nExamples:\n"
    "  sudo cowtrace verify C1 C6 --kernel 5.10 --kernel 6.12\n"
    "  sudo cowtrace verify --compare 6.12 7.2\n"
    "  sudo cowtrace verify --kernel 7.2 --baseline 7.2.json --ktap -"
)
@click.argument("claims", nargs=-1, metavar="[CLAIM]...")
@click.option("--kernel", "kernels", multiple=True, metavar="K",
              help="Run in the test VM on this kernel, a name or path; repeatable.")  # fmt: skip
@click.option("--compare", nargs=2, metavar="A B",
              help="Say what differs between two: kernels of the VM, here, or FILE.json of "
              "--baseline.")  # fmt: skip
@click.option("--baseline", metavar="FILE",
              help="Say what changed since the results in this file; "
              "create a missing one.")  # fmt: skip
@click.option("--update", is_flag=True, help="Replace the results in the file of --baseline.")
@verify_plans.plans_option
@click.option(
    "--no-make", is_flag=True, help="Do not build a tree of --kernel: take what is built."
)
@click.option("--make", "make_options", default="", metavar="WORDS", show_default=False,
              help="Build a tree with these arguments of make: 'LLVM=1'.")  # fmt: skip
@machine_options
@click.option("--html", metavar="FILE", help="Write an HTML page to this file.")
@click.option("--junit", "xml", metavar="FILE", help="Write JUnit XML for CI to this file.")
@click.option("--ktap", "tap", metavar="FILE",
              help="Write KTAP for kernel CI to this file, a check as it ends; "
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
    no_make: bool,
    make_options: str,
    machine: Machine,
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

    A kernel can be a path: an image, or a build tree, which is built first, by make. Then exit
    code 125 says that nothing is known of this kernel: it does not build, does not boot, or none
    of the checks can be seen. That is for `git bisect run cowtrace verify --kernel . C6`.

    With --compare, exit code 4 if something differs: as diff(1), which has 1.

    With --baseline and a file that exists, exit code 4 if something is worse than in it: a check
    that held and no longer does, that can no longer be seen, that is gone, or a new one that does
    not hold. What did not hold before is no reason. With --update, what is worse is none either.

    --csv has the checks alone; with --compare, the differences.
    """
    lines = lines_of(form)
    with exit_codes.untestable(any(map(own_kernel.is_path, kernels))):
        chosen = choose(groups(WORKLOADS), claims)
    if show_list:
        _list(chosen, lines)
        return
    verify_sides.require_together(compare, kernels, baseline, update, tap, form)
    names = frozenset(group.name for group in chosen) if claims else None
    booting = None
    if kernels or compare:
        made_by = None if no_make else make_options
        booting = verify_runs.Vms(definition.load(), machine, made_by)
    with exit_codes.untestable(any(map(own_kernel.is_path, kernels))):
        sides = verify_sides.sides(compare, booting.is_own, names) if compare and booting else None
        wanted = verify_sides.to_run(sides) if sides else kernels or (verify_runs.HERE,)
        # Each of them: an unknown name must not cost the others' time.
        in_vms = [kernel for kernel in wanted if kernel != verify_runs.HERE]
        own = True in [booting.is_own(kernel) for kernel in in_vms if booting]
    labels = verify_runs.labels(wanted, booting) | verify_sides.labels(sides or ())
    run = verify_runs.Chosen(
        chosen, claims, verify_plans.plans_of(plans, plan),
        _nothing if sides or tap == "-" else lines, verbose,
    )  # fmt: skip
    written = lines if form != "csv" or sides else _nothing  # of differences
    words = sys.stderr if tap == "-" else None
    files = verify_reports.Names(html, xml, tap)
    tests = planned(
        {group.name: [each.name for each in group.workloads] for group in chosen}, run.by.names
    )
    failures: list[CowtraceError] = []
    changes: dict[str, Sequence[Difference]] = {}
    with (
        exit_codes.untestable(own),
        verify_baseline.opened(baseline, replace=update, groups=names) as kept,
    ):
        # Opened before the checks start: a bad path must not cost their results.
        with verify_reports.opened(files, [*labels.values()], tests) as reports:
            reports.add(verify_sides.saved_checks(sides or ()))
            by_name = verify_runs.made(run, labels, booting, failures, reports)
            made = tuple(by_name.values())
            bad = verify_plans.differ(made, written, words)
            if sides and not failures:  # what is missing is no difference
                made = verify_sides.all_checks(sides, by_name)
                changes |= verify_sides.compare(made, written, words)
                bad = bad or any(changes.values())
            elif kept and kept.before is not None and not failures:
                since = kept.changes(made)
                changes |= verify_baseline.show_changes(since, kept.file, written, words)
                bad = bad or (not update and any(each.worse for each in since))
            else:
                checks = (check for one in made for check in one.checks)
                bad = bad or any(check.verdict is Verdict.FAILS for check in checks)
            reports.finish(made, changes)
        code = exit_codes.exit_code(made, next(iter(failures), None), bad=bad, own=own)
        if failures:
            failures[0].exit_code = code
            raise failures[0]
        if kept:
            kept.keep(made)
        if code == EXIT_UNTESTABLE:
            notice("none of the checks could be seen on this kernel")
    click.get_current_context().exit(code)


def _list(chosen: Sequence[Group], lines: Lines | None) -> None:
    for group in chosen:
        if lines:
            names = [workload.name for workload in group.workloads]
            lines({"group": group.name, "title": title(group.name), "workloads": names})
            continue
        show(Text(title(group.name), style="bold"))
        for workload in group.workloads:
            show(Text(f"  {workload.name}: {workload.claim}"))


def _nothing(_: Mapping[str, Any]) -> None:
    """Write no lines."""
