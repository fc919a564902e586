"""Attach a probe plan to the running kernel; snapshots come out until it is closed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType

from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.btf import keep_answers
from cowtrace.kernel.facts import KernelFacts, kernel_facts
from cowtrace.kernel.plan import Detail, NoPlan, Options, ProbePlan, preference, probe_plan
from cowtrace.kernel.privileges import require_privileges
from cowtrace.model import Event, Mapping, Snapshot
from cowtrace.tracer import detail_maps
from cowtrace.tracer.details import DetailLedger, as_mapping
from cowtrace.tracer.events import Events
from cowtrace.tracer.filter import Filter
from cowtrace.tracer.ledger import Ledger
from cowtrace.tracer.loader import Loaded, Refused
from cowtrace.tracer.raw_counts import RawCounts, RawProcess, completeness
from cowtrace.tracer.rounds import Rounds
from cowtrace.tracer.samples import Samples
from cowtrace.tracer.symbols import Symbols

MAX_ROWS = 1 << 17  # of fault_sums: process x kind x source x origin
MAX_PROCESSES = 1 << 15
# Maps of bpf/detail.h, made only when they are asked for.
_DETAIL_SIZES = {
    "MAX_DETAILS": 1 << 16,
    "MAX_MAPPINGS": 1 << 15,
    "MAX_STACKS": 1 << 14,
    "EVENT_PAGES": 1 << 10,
    "SAMPLE_PAGES": 1 << 13,
}
NO_FILTER = Filter()


class Tracer:
    """Probes attached to the whole system. A context manager; `close` leaves nothing loaded."""

    def __init__(self, plan: ProbePlan, facts: KernelFacts, loaded: Loaded) -> None:
        self.plan = plan.name
        self.probe_plan = plan
        self._facts = facts
        self._loaded = loaded
        totals = "PAGE_FAULTS" in plan.defines
        cells = plan.defines.get("CELLS", 0)
        details = "DETAILS" in plan.defines
        self._rounds = Rounds(loaded.map_fd, cells=cells, page_faults=totals, details=details)
        self._ledger = Ledger(plan, page_faults=totals)
        symbols = Symbols(partial(detail_maps.read_stack, loaded.map_fd), loaded.symbol)
        self._details = DetailLedger(facts.page_bytes, symbols.stack)
        self._events: Events | None = None
        if "EVENTS" in plan.defines:
            self._events = Events(loaded.map_fd("events"), self._mapping)
        self._samples: Samples | None = None
        if "SAMPLES" in plan.defines:
            number = self._details.generations.number
            fd = loaded.map_fd("samples")
            self._samples = Samples(fd, symbols, self._mapping, number, facts.page_bytes)
        self._attached_ns = time.monotonic_ns()
        self._baseline = self._losses()

    def snapshot(self) -> Snapshot:
        """Sums since attach, of every process of the system that faulted or was born since.

        Ends a round of counting, which takes an RCU grace period: some 10 ms, asleep.
        """
        raw = self._rounds.read()
        # Not at the end: to name addresses takes time, and what comes meanwhile is not in it.
        at_ns = time.monotonic_ns()
        self._details.add(raw)
        if self._samples:
            self._samples.read(raw.processes)
        ended = self._ledger.add(raw)
        self._rounds.forget(ended)
        if raw.details is not None:
            self._forget_details(raw, ended)
        return Snapshot(
            at_ns=at_ns,
            attached_ns=self._attached_ns,
            plan=self.plan,
            kernel=self._facts.release,
            page_bytes=self._facts.page_bytes,
            processes=self._ledger.processes(),
            completeness=completeness(self._losses(), self._baseline),
            unseen=self.probe_plan.unseen,
            details=self._details.rows(),
            generations=self._details.generations.all(),
            samples=self._samples.rows() if self._samples else (),
        )

    def events(self, timeout_seconds: float) -> Iterator[Event]:
        """Single faults, as they come: those of now, or after waiting up to so long.

        Only after `attach(events=True)`. A mapping is named once a snapshot has found it.
        """
        assert self._events is not None, "attach(events=True)"
        return self._events.poll(timeout_seconds)

    def forget_ended(self) -> None:
        """Leave what had ended by the last snapshot out of those to come.

        For tracers that run for long: without it, memory grows with each process and fork.
        """
        self._ledger.forget_ended()
        self._details.forget_ended()

    def bpf_cost(self) -> tuple[int, int] | None:
        """(ns, runs) of all programs, while BPF statistics are on; None: not known here."""
        return self._loaded.cost()

    def close(self) -> None:
        """Detach and unload. Idempotent."""
        if self._events:
            self._events.close()
        if self._samples:
            self._samples.close()
        self._loaded.close()

    def __enter__(self) -> Tracer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _forget_details(self, raw: RawCounts, ended: dict[int, RawProcess]) -> None:
        left = {pid: info for pid, info in raw.processes.items() if pid not in ended}
        detail_maps.forget_mappings(self._loaded.map_fd, self._details.close(ended))
        gone = self._details.generations.close(left)
        detail_maps.forget_generations(self._loaded.map_fd, gone)

    def _mapping(self, pid: int, start: int) -> Mapping | None:
        known = self._details.mapping(pid, start)
        if known:
            return known
        found = detail_maps.read_mapping(self._loaded.map_fd, pid, start)
        return as_mapping(pid, start, found) if found else None

    def _losses(self) -> tuple[int, ...]:
        return (*self._rounds.losses(), *self._loaded.passed_over())


def attach(
    plan: str = "auto",
    *,
    region: tuple[int, int] | None = None,
    page_faults: bool = False,
    cross_check: bool = False,
    fork_copies: bool = False,
    details: frozenset[Detail] = frozenset(),
    samples: bool = False,
    events: bool = False,
    only: Filter = NO_FILTER,
    notice: Callable[[str], None] | None = None,
) -> Tracer:
    """Attach a plan; `auto` test-loads them, cheapest first, and takes the first that runs.

    Args:
        plan: auto, fentry, kprobe or tracepoint.
        region: count only faults at addresses in [start, end).
        page_faults: also count all page faults of each process: a program in each of them.
        cross_check: compare each copy with wp_page_copy(), where that exists (kprobe plan).
        fork_copies: count the pages that fork itself copies, since they are pinned: a probe on
            every new anonymous page.
        details: what to tell faults apart by, in Snapshot.details: plan.DETAILS. What the plan
            cannot tell is missing in `Tracer.probe_plan.details`, and None in the rows.
        samples: also take samples of copies with their user stack, in Snapshot.samples: unwound
            by DWARF tables, for programs that keep no frame pointers, which `stack` needs.
            Every copy while there are few, fewer and fewer when there are many.
        events: also give out each fault by itself: `Tracer.events`.
        only: which processes to count.
        notice: told, one sentence each, which plan was refused and why, and which was taken.

    Raises:
        CowtraceError: with EXIT_NO_PLAN, when the plan cannot run here.
    """
    require_privileges()
    say = notice or (lambda sentence: None)
    if events:
        details |= {"mapping"}
    if samples:
        details |= {"generation"}
    options = Options(
        region,
        page_faults,
        cross_check,
        fork_copies,
        details,
        samples,
        events,
        wanted=bool(only.pids),
        follow=bool(only.pids) and only.follow,
        cgroup=only.cgroup is not None,
    )
    facts = kernel_facts()
    names = tuple(name for name in preference(facts) if plan in ("auto", name))
    refusals = []
    for name in names:
        try:
            tracer = _attach_one(probe_plan(name, facts, options), facts, only)
        except CowtraceError as error:
            if error.exit_code != EXIT_NO_PLAN or not isinstance(error, Unavailable | Refused):
                raise
            refusals.append(error)
            say(str(error))
            continue
        say(f"attached the {name} plan")
        keep_answers()
        return tracer
    if len(refusals) == 1:
        raise refusals[0]
    raise CowtraceError(
        f"no probe plan runs on kernel {facts.release}",
        hint="see what is missing: cowtrace doctor; or use the VM: cowtrace vm run 6.12 -- ...",
        exit_code=EXIT_NO_PLAN,
    )


class Unavailable(CowtraceError):
    """This kernel lacks what a plan needs."""

    def __init__(self, plan: NoPlan) -> None:
        super().__init__(
            f"the {plan.name} plan cannot run here: {'; '.join(plan.reasons)}",
            hint="see what this kernel offers: cowtrace doctor",
            exit_code=EXIT_NO_PLAN,
        )


def _attach_one(plan: ProbePlan | NoPlan, facts: KernelFacts, only: Filter) -> Tracer:
    if isinstance(plan, NoPlan):
        raise Unavailable(plan)
    sizes = {"MAX_ROWS": MAX_ROWS, "MAX_PROCESSES": MAX_PROCESSES}
    loaded = Loaded(plan, sizes | _DETAIL_SIZES)
    try:
        only.seed(loaded.map_fd)
    except BaseException:
        loaded.close()
        raise
    return Tracer(plan, facts, loaded)
