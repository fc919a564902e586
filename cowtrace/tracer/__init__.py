"""Attach a probe plan to the running kernel: options in, a Tracer out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.btf import save_answers
from cowtrace.kernel.choice import preference
from cowtrace.kernel.facts import KernelFacts, kernel_facts
from cowtrace.kernel.options import Detail, Options
from cowtrace.kernel.plan import NoPlan, ProbePlan, probe_plan
from cowtrace.kernel.privileges import require_privileges
from cowtrace.proc import descendants
from cowtrace.tracer.confinement import Needs
from cowtrace.tracer.filter import Filter
from cowtrace.tracer.loader import Refused, load
from cowtrace.tracer.symbolizer import Symbolizer
from cowtrace.tracer.tracer import Tracer

__all__ = ["Needs", "Tracer", "attach"]

NO_FILTER = Filter()


def attach(
    plan: str = "auto",
    *,
    region: tuple[int, int] | None = None,
    page_faults: bool = False,
    cross_check: bool = False,
    outcomes: bool = False,
    fork_copies: bool = False,
    details: frozenset[Detail] = frozenset(),
    samples: bool = False,
    objects: bool = False,
    events: bool = False,
    only: Filter = NO_FILTER,
    fold: bool = False,
    notice: Callable[[str], None] | None = None,
) -> Tracer:
    """Attach a plan; `auto` test-loads them, cheapest first, and takes the first that loads.

    Args:
        plan: auto, fentry, kprobe or tracepoint.
        region: count only faults at addresses in [start, end).
        page_faults: also count all page faults of each process: a program in each of them.
        cross_check: compare each copy with wp_page_copy(), where that exists (kprobe plan).
        outcomes: also count faults that failed or changed nothing: at the end of do_wp_page(),
            not where the page-table entry changes, which costs less. So do cross_check, the
            detail latency, and in the fentry plan samples and the details of stacks.
        fork_copies: count pages that fork itself copies because they are pinned: a probe on every
            new anonymous page.
        details: by what Snapshot.details sums faults: plan.DETAILS. With `generation` alone, only
            Snapshot.generations is filled; without it, forks that have ended are not in it. A
            detail that the plan does not support is absent from `Tracer.probe_plan.details`, and
            None in the rows.
        samples: also sample copies with their user stack, in Snapshot.samples. These stacks are
            unwound by DWARF tables, for programs without the frame pointers that `stack` needs.
            Every copy is sampled while there are few, and fewer the more there are.
        objects: also sample what copies changed in CPython's memory: DetailRow.written, in
            Snapshot.samples. Without `samples`, their stacks are not.
        events: also report each fault alone: `Tracer.events`.
        only: which processes to trace.
        fold: of many processes that come and go between two snapshots, sum up all but the largest
            in one process of PID 0.
        notice: is called with a sentence for each plan that was refused, and for the one taken.

    Raises:
        CowtraceError: with EXIT_NO_PLAN, when the plan cannot run here.
    """
    require_privileges()
    by_fork = "generation" in details
    say = notice or (lambda sentence: None)
    if events:
        details |= {"mapping"}
    if samples:
        details |= {"generation"}
    if objects:
        details |= {"generation", "mapping"}
    options = Options(
        region,
        page_faults,
        cross_check,
        outcomes,
        fork_copies,
        details,
        samples,
        objects,
        events,
        wanted=bool(only.pids),
        follow=bool(only.pids) and only.follow,
        cgroup=only.cgroup is not None,
    )
    facts = kernel_facts()
    names = tuple(name for name in preference(facts) if plan in ("auto", name))
    refusals: list[CowtraceError] = []
    for name in names:
        try:
            tracer = _attach_one(
                probe_plan(name, facts, options), facts, only,
                by_fork=by_fork, generations_alone=details <= {"generation"}, fold=fold,
            )  # fmt: skip
        except Refused as error:
            refusals.append(error)
            say(str(error))
        else:
            say(f"attached the {name} plan")
            save_answers()
            if samples or objects:
                tracer.look((*only.pids, *descendants(only.pids)) if only.follow else only.pids)
            return tracer
    if len(refusals) == 1:
        raise refusals[0]
    raise CowtraceError(
        f"no probe plan runs on kernel {facts.release}",
        hint="see what is missing: cowtrace doctor; or use the VM: cowtrace vm run 6.12 -- ...",
        exit_code=EXIT_NO_PLAN,
    )


def _attach_one(
    plan: ProbePlan | NoPlan, facts: KernelFacts, only: Filter, **options: bool
) -> Tracer:
    if isinstance(plan, NoPlan):
        raise Refused(f"the {plan.name} plan cannot run here: {'; '.join(plan.reasons)}")
    with ExitStack() as undo:
        symbolizer = Symbolizer(kernel="kernel-stack" in plan.details)
        undo.callback(symbolizer.close)
        if "SAMPLES" in plan.defines or {"stack", "kernel-stack"} & plan.details:
            symbolizer.start()  # before the filter follows this process's children
        loaded = load(plan)
        undo.callback(loaded.close)
        only.seed(loaded.maps)
        undo.pop_all()
    return Tracer(plan, facts, loaded, symbolizer, only.is_called, **options)
