"""Choose hooks and macros for each probe plan, and list what each plan cannot see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from cowtrace.kernel import hooks
from cowtrace.kernel.addresses import addresses
from cowtrace.kernel.arch import ARCHES
from cowtrace.kernel.facts import KernelFacts
from cowtrace.kernel.hooks import Hook, Part
from cowtrace.kernel.limits import SLOTS, limits
from cowtrace.kernel.members import MAPLE, MAPPING, TASK, VM_FAULT
from cowtrace.kernel.options import NO_OPTIONS, Detail, Options
from cowtrace.model import FaultKind

PlanName = Literal["fentry", "kprobe", "tracepoint"]
PLAN_NAMES: tuple[PlanName, ...] = ("fentry", "kprobe", "tracepoint")

_PROCESS_TRACEPOINTS = (
    "sched_process_fork",
    "sched_process_exit",
    "sched_process_free",
    "task_rename",
)
_FAULT_TRACEPOINTS = ("page_fault_user", "page_fault_kernel")
_DETAIL_MACROS: dict[str, str] = {
    "generation": "GENERATIONS",
    "mapping": "MAPPINGS",
    "stack": "USER_STACKS",
    "kernel-stack": "KERNEL_STACKS",
    "page-eighth": "EIGHTHS",
}
_ERRORS = ("OOM", "SIGBUS", "HWPOISON", "HWPOISON_LARGE", "SIGSEGV", "FALLBACK")

# include/linux/gfp_types.h: the same bits in every version so far.
_GFP = {"GFP_MOVABLE": 0x8, "GFP_ZERO": 0x100}
CELLS = 1 << 10  # a round and CPU: 32 bytes each, 64 with details; twice


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """How copy-on-write faults are seen on one kernel."""

    name: PlanName
    hooks: tuple[Hook, ...]  # to attach in this order
    defines: Mapping[str, int]  # -D macros for bpf/
    unseen: frozenset[FaultKind]  # kinds it does not distinguish: shown as `-`
    blind_spots: tuple[str, ...]  # limits of its counts: a sentence each
    details: frozenset[Detail] = frozenset()  # those requested that it supports
    addresses: tuple[int, ...] = ()  # in the order of enum kernel_address, cow.h; 0: unknown

    @property
    def misses_faults(self) -> bool:
        """True if a skipped run loses a fault.

        Not if no thread can be preempted in a program: then only an interrupt can come between, and
        its allocations belong to no fault. (A skipped entry of a kprobe pair always loses one.)
        """
        return self.name == "kprobe" or "PREEMPTIBLE" in self.defines

    @property
    def shows_addresses(self) -> bool:
        """True if the address of a written byte is known: else that of its page."""
        return "EXACT_ADDRESSES" in self.defines and (
            self.name == "tracepoint"
            or not self.defines.keys().isdisjoint(("VMF_REAL_ADDRESS", "NOTED_ADDRESSES"))
        )


@dataclass(frozen=True, slots=True)
class NoPlan:
    """Why a plan cannot run on this kernel."""

    name: PlanName
    reasons: tuple[str, ...]


def probe_plan(
    name: PlanName, facts: KernelFacts, options: Options = NO_OPTIONS
) -> ProbePlan | NoPlan:
    """The plan of that name on that kernel, or everything that it lacks."""
    reasons = tuple(_missing(name, facts))
    if reasons:
        return NoPlan(name, reasons)
    details = _details(name, facts, options)
    parts = _parts(name, facts, options, details)
    if not facts.tracepoints >= set(_FAULT_TRACEPOINTS):  # arm64 has none: no totals
        options = replace(options, page_faults=False)
    defines = _defines(name, facts) | options.defines()
    for part in parts:
        defines |= part.defines
    if _notes_addresses(name, facts, defines):
        defines["NOTED_ADDRESSES"] = 1
    if _has_cells(facts, defines):
        defines["CELLS"] = CELLS
        if _fit_cells(name, options, details):
            defines["DETAIL_CELLS"] = 1
    attached = tuple(hook for part in parts for hook in part.hooks)
    return ProbePlan(
        name,
        attached,
        defines,
        *limits(name, facts, defines),
        details,
        addresses(facts.symbols, facts.layout),
    )


def _notes_addresses(name: PlanName, facts: KernelFacts, defines: Mapping[str, int]) -> bool:
    """Whether the tracepoints of page faults note what struct vm_fault does not have."""
    wanted = "EXACT_ADDRESSES" in defines and "VMF_REAL_ADDRESS" not in facts.offsets
    return wanted and name != "tracepoint" and facts.tracepoints >= set(_FAULT_TRACEPOINTS)


def _details(name: PlanName, facts: KernelFacts, options: Options) -> frozenset[Detail]:
    """The requested details that this plan supports on this kernel."""
    supported: set[Detail] = {"stack", "kernel-stack", "page-eighth"}
    if "sched_process_exec" in facts.tracepoints:
        supported.add("generation")
    needed = MAPPING.keys() | (MAPLE if name == "tracepoint" else {}).keys()
    if facts.offsets.keys() >= needed:
        supported.add("mapping")
    if hooks.latency(name, facts) is not hooks.NOTHING:
        supported.add("latency")
        if "latency" in options.details and hooks.tlb_flushes(name, facts) is not hooks.NOTHING:
            supported.add("tlb-flush")
    return options.details & supported


def _parts(
    name: PlanName, facts: KernelFacts, options: Options, details: frozenset[Detail]
) -> list[Part]:
    parts = []
    if details:
        macros = {_DETAIL_MACROS[detail]: 1 for detail in details & _DETAIL_MACROS.keys()}
        parts.append(Part((), {"DETAILS": 1, **macros}))
    if details or options.samples or options.objects:
        # The parent of a process that has ended resolves its addresses: tracer/stack_symbols.py.
        parts.append(Part((), {"GENERATIONS": 1}))
    if "generation" in details:
        parts.append(hooks.fork_times(name, facts))
    if "latency" in details:
        parts.append(hooks.latency(name, facts))
    if "tlb-flush" in details:
        parts.append(hooks.tlb_flushes(name, facts))
    if name == "tracepoint":
        return [*parts, hooks.page_table(facts)]
    parts.append(hooks.huge_pages(name, facts))
    if options.fork_copies:
        parts.append(hooks.fork_copies(facts))
    if name == "kprobe":
        parts.append(Part(hooks.pair("finish_fault"), {}))
    changes = hooks.pte_changes(name, facts)
    if changes is not hooks.NOTHING and not _needs_ends(name, options, details):
        parts.append(changes)
        if name == "fentry":
            parts.append(hooks.no_access(facts))
    elif name == "kprobe":
        if options.cross_check:
            parts.append(hooks.wp_page_copy(facts))
        parts.append(Part(hooks.pair("do_wp_page"), {}))
    return parts


def _needs_ends(name: PlanName, options: Options, details: frozenset[Detail]) -> bool:
    """Whether the end of do_wp_page() must be seen, where the new page is mapped.

    The fentry plan sees the entry once it is cleared: the page, which may be one of the user stack,
    cannot be read then.
    """
    reads = options.samples or options.objects or {"stack", "kernel-stack"} & details
    late = "latency" in details or options.outcomes or options.cross_check
    return bool(late or (name == "fentry" and reads))


def _has_cells(facts: KernelFacts, defines: Mapping[str, int]) -> bool:
    """Whether sums are cached: where no program can preempt another, bpf/count.h.

    Under the page table's lock none can, except on a real-time kernel, where its holder may sleep.
    """
    return "PREEMPTIBLE" not in defines or ("PTE_CHANGES" in defines and not facts.real_time)


def _fit_cells(name: PlanName, options: Options, details: frozenset[Detail]) -> bool:
    """Whether the cells have a fault's mapping and generation, and no more is counted by."""
    used = details or options.events or options.samples or options.objects
    return name != "tracepoint" and bool(used) and details <= {"generation", "mapping"}


def _missing(name: PlanName, facts: KernelFacts) -> list[str]:
    reasons = []
    if facts.machine not in ARCHES:
        reasons.append(f"page-table layout of {facts.machine} is not known to cowtrace")
    if name == "kprobe" and facts.kprobes_refused:
        reasons.append(facts.kprobes_refused)
    if name == "fentry" and facts.fexit_refused:
        reasons.append(facts.fexit_refused)
    members = TASK.keys() | (VM_FAULT if name != "tracepoint" else {}).keys()
    reasons += [f"BTF has no member for {m}" for m in sorted(members - facts.offsets.keys())]
    if name == "tracepoint":
        needed: tuple[str, ...] = (*_FAULT_TRACEPOINTS, "mm_page_alloc", *_PROCESS_TRACEPOINTS)
    else:
        needed = _PROCESS_TRACEPOINTS
        for function in ("do_wp_page", "finish_fault"):
            if function not in facts.symbols:
                reasons.append(f"no function {function}() in this kernel")
            elif facts.parameters.get(function, ("vmf",))[:1] != ("vmf",):
                reasons.append(f"{function}() does not take vmf first")
    reasons += [f"no tracepoint {t}" for t in needed if t not in facts.tracepoints]
    return reasons


def _defines(name: PlanName, facts: KernelFacts) -> dict[str, int]:
    offsets = dict(facts.offsets)
    if not offsets.keys() >= MAPLE.keys():
        offsets.pop("MM_MT", None)
    errors = sum(facts.constants[f"VM_FAULT_{e}"] for e in _ERRORS)
    cast = facts.cast
    return {
        f"PLAN_{name.upper()}": 1,
        # A kprobe's program runs with preemption off.
        **({"PREEMPTIBLE": 1} if facts.preemptible and name != "kprobe" else {}),
        **({"RDONLY_CAST": cast.function, "WORDS": cast.words} if cast else {}),
        "PAGE_SIZE": facts.page_bytes,
        "PMD_SIZE": facts.page_bytes * (facts.page_bytes // 8),  # one table of 8-byte entries
        "PAGE_SHIFT": facts.page_bytes.bit_length() - 1,
        "SLOTS": SLOTS,
        "CPUS": facts.cpus,
        "VM_FAULT_ERROR": errors,
        **offsets,
        **facts.constants,
        **_GFP,
    }
