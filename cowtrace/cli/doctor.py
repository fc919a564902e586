"""`cowtrace doctor`: what this kernel offers, what is missing, and which plan can run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

import click

from cowtrace.cli.attach import attach
from cowtrace.cli.options import json_option
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.facts import KernelFacts
from cowtrace.kernel.plan import PLAN_NAMES, NoPlan, PlanName, probe_plan
from cowtrace.kernel.requirements import facts_or_none, requirements
from cowtrace.views.doctor import Trial, report
from cowtrace.views.show import show


@click.command(epilog="\b\nExample:\n  sudo cowtrace doctor")
@json_option
def doctor(as_json: bool) -> None:
    """Show what this kernel offers and which probe plan can run.

    Each plan is really attached, and detached at once. Exit code 0 when at least one can run,
    3 when none can.
    """
    facts = facts_or_none()
    needs = requirements(facts)
    trials = tuple(_try(name, facts) for name in PLAN_NAMES)
    if as_json:
        print(
            json.dumps(
                {
                    "kernel": os.uname().release,
                    "requirements": [asdict(need) for need in needs],
                    "plans": [asdict(trial) for trial in trials],
                }
            )
        )
    else:
        show(report(os.uname().release, needs, trials))
    if not any(trial.runs for trial in trials):
        click.get_current_context().exit(EXIT_NO_PLAN)


def _try(name: PlanName, facts: KernelFacts | None) -> Trial:
    plan = probe_plan(name, facts) if facts else None
    if isinstance(plan, NoPlan):
        return Trial(name, False, "; ".join(plan.reasons), (), ())
    try:
        attach(name).close()
    except CowtraceError as error:
        return Trial(name, False, str(error), (), ())
    assert plan is not None  # attach() asked the same kernel for the same facts
    unseen = tuple(kind.label for kind in sorted(plan.unseen))
    return Trial(name, True, None, unseen, plan.blind_spots)
