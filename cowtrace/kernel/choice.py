"""Say in which order `auto` tries the plans, why it takes one, and where each counts."""

from __future__ import annotations

from cowtrace.kernel import hooks
from cowtrace.kernel.facts import KernelFacts
from cowtrace.kernel.plan import PLAN_NAMES, PlanName


def preference(facts: KernelFacts) -> tuple[PlanName, ...]:
    """The order in which `auto` tries the plans: those that lose no fault first, then by cost."""
    return ("kprobe", "fentry", "tracepoint") if facts.preemptible else PLAN_NAMES


def why_first(name: PlanName, refused: bool) -> str:
    """Why `auto` takes a plan, as a clause. `refused`: one before it does not run."""
    if refused:
        return "the plans above it do not run"
    if name == "kprobe":
        return "threads are preempted in programs of the fentry plan here: that loses faults"
    return "of those that lose no fault, it costs the least per fault"


def how_it_counts(name: PlanName, facts: KernelFacts) -> str:
    """Where a plan sees a fault, and why not where the entry is changed: a clause."""
    if name == "tracepoint":
        table = hooks.page_table(facts) is not hooks.NOTHING
        return "counts write faults by the page that the kernel allocates in them" + (
            "; where it allocates none, by the page table when the fault started" if table else ""
        )
    if why := hooks.pte_changes_refused(name, facts):
        return f"counts when do_wp_page() returns: {why}"
    return (
        "counts where the kernel changes the page-table entry, under the page table's lock: "
        "exact when threads race for a page"
    )
