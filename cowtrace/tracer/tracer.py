"""Take snapshots and events from attached probes, until they are closed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from cowtrace import model
from cowtrace.kernel.facts import KernelFacts
from cowtrace.kernel.plan import ProbePlan
from cowtrace.libc import libc
from cowtrace.model import Event, Snapshot
from cowtrace.tracer import abi, process_files
from cowtrace.tracer.brief import BriefProcesses
from cowtrace.tracer.confinement import Needs, confine
from cowtrace.tracer.details import DetailLedger, as_mapping
from cowtrace.tracer.events import Events
from cowtrace.tracer.ledger import Ledger
from cowtrace.tracer.loader import Loaded
from cowtrace.tracer.losses import completeness
from cowtrace.tracer.rounds import Round, Rounds
from cowtrace.tracer.samples import Samples
from cowtrace.tracer.stack_symbols import Symbols
from cowtrace.tracer.symbolizer import Symbolizer
from cowtrace.tracer.written import WrittenMemory


class Tracer:
    """Probes attached to the whole system. A context manager; `close` leaves nothing loaded."""

    def __init__(
        self,
        plan: ProbePlan,
        facts: KernelFacts,
        loaded: Loaded,
        symbolizer: Symbolizer,
        is_called: Callable[[str], bool],
        *,
        by_fork: bool,
        generations_alone: bool,
        fold: bool = False,
    ) -> None:
        self.plan = plan.name
        self.probe_plan = plan
        self._facts = facts
        self._loaded = loaded
        totals = "PAGE_FAULTS" in plan.defines
        cells = plan.defines.get("CELLS", 0)
        details = "DETAILS" in plan.defines
        self._brief = BriefProcesses() if fold else None
        self._rounds = Rounds(
            loaded.maps,
            cells=cells,
            page_faults=totals,
            details=details,
            detail_cells="DETAIL_CELLS" in plan.defines,
            brief=self._brief,
        )
        self._ledger = Ledger(plan, page_faults=totals)
        self._symbolizer = symbolizer
        self._symbols = symbols = Symbols(self._rounds.stack, self._symbolizer)
        self._details = DetailLedger(
            facts.page_bytes,
            symbols.stack,
            by_fork=by_fork,
            generations_alone=generations_alone,
            timed="latency" in plan.details,
            tlb_flushes="tlb-flush" in plan.details,
            exact=plan.shows_addresses,
        )
        # Of events and samples, until a snapshot has them.
        self._new_mappings: dict[tuple[int, int], tuple[abi.Mapping, model.Mapping]] = {}
        self._events: Events | None = None
        if "EVENTS" in plan.defines:
            self._events = Events(loaded.maps["events"], self._mapping, exact=plan.shows_addresses)
        self._samples: Samples | None = None
        if "SAMPLES" in plan.defines:
            number = self._details.generations.number if by_fork else lambda _: None
            ring = loaded.maps["samples"]
            self._samples = Samples(
                ring, symbols, self._mapping, number, facts.page_bytes,
                WrittenMemory(symbols, self._rounds), is_called,
                stacks="SAMPLED_STACKS" in plan.defines, objects="OBJECTS" in plan.defines,
            )  # fmt: skip
        self._attached_ns = time.monotonic_ns()
        self._baseline = self._counters()

    def snapshot(self) -> Snapshot:
        """Sums since attach, of every process that faulted or was created since.

        Ends a round of counting, which takes an RCU grace period: some 10 ms of sleep.
        """
        raw = self._rounds.read(self._ledger.living())
        # Not at the end: naming addresses takes time, and losses meanwhile are not in the round.
        counters = self._counters()
        self._details.add(raw)
        if self._samples:
            # First: what the round has of stacks can take all the time that naming may take.
            living = (pid for pid, info in raw.processes.items() if not info.exited)
            self._samples.look(living, raw.everyone)
            self._samples.read(raw.half, raw.everyone, raw.brief)
        self._new_mappings.clear()
        ended = self._ledger.add(raw)
        self._rounds.forget(ended)
        if self._samples:
            self._samples.forget(ended)
        if raw.details is not None:
            self._forget_details(raw, ended)
        return Snapshot(
            at_ns=raw.at_ns,
            attached_ns=self._attached_ns,
            plan=self.plan,
            kernel=self._facts.release,
            page_bytes=self._facts.page_bytes,
            processes=self._ledger.processes(),
            completeness=completeness(counters, self._baseline, self._unnamed()),
            unseen=self.probe_plan.unseen,
            details=self._details.rows(),
            generations=self._details.generations.all(),
            samples=self._samples.rows() if self._samples else (),
            round=self._ledger.round,
        )

    def look(self, pids: Iterable[int]) -> None:
        """Find the interpreters of processes that may not have faulted yet."""
        if self._samples:
            self._samples.look(pids, {})

    def events(self, timeout_seconds: float) -> Iterator[Event]:
        """Single faults as they come; waits at most `timeout_seconds` for the first.

        Only after `attach(events=True)`. A mapping is named once a snapshot has found it.
        """
        assert self._events is not None, "attach(events=True)"
        return self._events.poll(timeout_seconds)

    def forget_ended(self) -> None:
        """Leave what had ended by the last snapshot out of the next ones.

        For tracers that run for long, and write down what a snapshot shows: without it, memory
        grows with each process and fork, and beyond 16,384 details, those of live processes lose
        their mapping, too. Of details that are many, those that did not change are left out, too:
        their sums begin anew.
        """
        self._ledger.forget_ended()
        self._details.forget_ended()
        if self._samples:
            self._samples.forget_unchanged()
        self._symbols.forget()
        libc().malloc_trim(0)  # after a storm the heap has whole free pages between others

    def fold_ended(self, most: int) -> None:
        """With `attach(fold=True)`, keep at most twice as many ended processes.

        A process of PID 0 has the others' sums.

        Only what a snapshot has shown is folded, so that it has no rate.
        """
        if self._brief:
            self._ledger.fold_ended(most)
            self._details.fold_ended(most)

    def bpf_cost(self) -> tuple[int, int] | None:
        """(ns, runs) of all programs, while BPF statistics are on; None: this kernel has none."""
        return self._loaded.cost()

    def confine(self, needs: Needs) -> None:
        """Give up, for good and for this whole process, what only attaching takes."""
        process_files.rest()
        details = self.probe_plan.details
        confine(
            self._loaded.maps["rounds"],
            needs,
            names_stacks="SAMPLES" in self.probe_plan.defines
            or not details.isdisjoint(("stack", "kernel-stack")),
            names_mappings="mapping" in details,
        )

    def close(self) -> None:
        """Detach and unload. Idempotent."""
        if self._events:
            self._events.close()
        if self._samples:
            self._samples.close()
        self._symbolizer.close()
        self._loaded.close()

    def __enter__(self) -> Tracer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _forget_details(self, raw: Round, ended: Mapping[int, abi.Process]) -> None:
        left = {pid: info for pid, info in raw.processes.items() if pid not in ended}
        assert raw.details
        mappings = raw.details.mappings
        gone = self._details.needless(mappings) | {key for key in mappings if key.tgid in ended}
        self._rounds.forget_mappings(gone)
        self._details.close(ended)
        self._rounds.forget_generations(self._details.generations.close(left))

    def _mapping(self, pid: int, start: int) -> model.Mapping | None:
        if seen := self._details.mapping(pid, start):
            return seen
        found = self._rounds.mapping(pid, start)
        if found and self._new_mappings.get((pid, start), (None,))[0] != found:
            self._new_mappings[pid, start] = found, as_mapping(pid, start, found)
        return self._new_mappings[pid, start][1] if found else None

    def _unnamed(self) -> dict[str, int]:
        folded = self._symbols.folded + (self._samples.folded if self._samples else 0)
        return self._symbolizer.causes | {
            "stacks folded": folded,
            "writes not explained": self._samples.unexplained if self._samples else 0,
            "details folded": self._details.folded + (self._brief.folded if self._brief else 0),
        }

    def _counters(self) -> tuple[int, ...]:
        return (*self._rounds.counters(), *self._loaded.skipped_runs())
