"""`cowtrace doctor`: show what this kernel supports, what is missing, and which plan can run."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import click

from cowtrace.analysis.cost import Cost
from cowtrace.cli.attach import LATENCY, attach
from cowtrace.cli.cost import measure
from cowtrace.cli.options import Form, form_options
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.choice import how_it_counts, preference, why_first
from cowtrace.kernel.facts import KernelFacts
from cowtrace.kernel.options import Detail
from cowtrace.kernel.plan import PLAN_NAMES, NoPlan, PlanName, probe_plan
from cowtrace.kernel.requirements import facts_or_none, requirements
from cowtrace.machine.csv import CsvLines
from cowtrace.machine.detail_objects import cost_object
from cowtrace.terminal.doctor import Trial, cost_table, report
from cowtrace.terminal.screen import show

# Commands, and the details that they request.
_DETAILS_OF: tuple[tuple[str, frozenset[Detail]], ...] = (
    ("top, run", frozenset()),
    ("forks, export", frozenset({"generation"})),
    ("maps", frozenset({"mapping"})),
    ("latency", LATENCY),
    ("record --no-stacks", frozenset({"generation", "latency", "mapping"})),
)


@click.command(epilog="\b\nExamples:\n  sudo cowtrace doctor\n  sudo cowtrace doctor --cost")
@click.option("--cost", is_flag=True, help="Also measure what tracing costs on this machine.")
@form_options
def doctor(cost: bool, form: Form) -> None:
    """Show what this kernel offers and which probe plan can run.

    Attaches each plan and detaches it at once. Exit code 0 when at least one can run, 3 when none
    can.

    --cost runs a process that copies pages for some seconds, with and without a tracer. It turns
    the kernel's BPF statistics on meanwhile, and restores them however it ends.

    --csv has the requirements; with --cost, the costs.
    """
    facts = facts_or_none()
    needs = requirements(facts)
    # In the order in which `auto` tries them.
    trials = tuple(_try(name, facts) for name in (preference(facts) if facts else PLAN_NAMES))
    auto = next((trial.plan for trial in trials if trial.runs), None)
    why = why_first(auto, refused=not trials[0].runs) if auto else None
    found: dict[tuple[str, ...], Cost] = {}  # unsupported details cost nothing
    for used_by, details in _DETAILS_OF if cost and auto else ():
        measured = measure(used_by, details)
        found.setdefault(measured.details, measured)
    costs = [*found.values()]
    if form == "json":
        written: dict[str, object] = {
            "kernel": os.uname().release,
            "requirements": [asdict(need) for need in needs],
            "plans": [asdict(trial) for trial in trials],
            "auto": auto,
            "why": why,
        }
        if cost:
            written["cost"] = [cost_object(each) for each in costs]
        print(json.dumps(written))
    elif form == "csv":
        rows = [cost_object(each) for each in costs] if cost else [asdict(need) for need in needs]
        CsvLines(sys.stdout).write(rows)
    else:
        show(report(os.uname().release, needs, trials, why))
        if costs:
            click.echo()
            show(cost_table(costs))
    if not auto:
        click.get_current_context().exit(EXIT_NO_PLAN)


def _try(name: PlanName, facts: KernelFacts | None) -> Trial:
    plan = probe_plan(name, facts) if facts else None
    if isinstance(plan, NoPlan):
        return Trial(name, False, "; ".join(plan.reasons), None, (), ())
    try:
        attach(name).close()
    except CowtraceError as error:
        return Trial(name, False, str(error), None, (), ())
    assert plan is not None  # attach() asked the same kernel for the same facts
    assert facts is not None
    counts = how_it_counts(name, facts)
    unseen = tuple(kind.label for kind in sorted(plan.unseen))
    return Trial(name, True, None, counts, unseen, plan.blind_spots)
