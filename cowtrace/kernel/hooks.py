"""Choose the kernel functions to probe: which exist, by which name, with which arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cowtrace.kernel.facts import KernelFacts
from cowtrace.kernel.members import HUGETLB, MAPLE, NO_ACCESS

# HUGETLB_WP in bpf/huge.h, by the names of the function's first arguments.
_HUGETLB_SHAPES = {
    ("vmf",): 1,
    ("mm", "vma", "address", "ptep", "pagecache_page"): 2,
    ("mm", "vma", "address", "ptep", "flags"): 3,
    ("pagecache_folio", "vmf"): 4,  # 6.10 on; not in 6.12.117
}
_OF_HUGETLB_COW = 2

# As bpf/pte_change.h expects them.
_PTE_CHANGE_KPROBES = ("ptep_clear_flush", "ptep_set_access_flags")
_PTE_CHANGE_ARGUMENTS = {
    "flush_tlb_mm_range": ("mm", "start", "end"),
    "ptep_set_access_flags": ("vma", "address", "ptep", "entry"),
}
# As bpf/no_access.h expects them.
_NO_ACCESS_ARGUMENTS = {
    "__access_remote_vm": ("mm", "addr", "buf", "len", "gup_flags"),
    "ksm_madvise": ("vma", "start", "end", "advice"),
}
# dup_mmap() calls them when it has taken the parent's mmap lock, and when it has released it.
_FORK_LOCKS = ("uprobe_dup_mmap", "uprobe_end_dup_mmap")


@dataclass(frozen=True, slots=True)
class Hook:
    """One kprobe program of bpf/ and its kernel function. Other programs are attached by name."""

    kind: Literal["kprobe", "kretprobe"]
    target: str  # kernel function
    program: str


@dataclass(frozen=True, slots=True)
class Part:
    """Hooks that belong together, and the macros that enable their programs."""

    hooks: tuple[Hook, ...]
    defines: dict[str, int]


NOTHING = Part((), {})


def pair(function: str, program: str | None = None) -> tuple[Hook, Hook]:
    """Entry and return of one function.

    The return first: an entry without a return probe would look like a lost return.
    """
    program = program or function
    return (
        Hook("kretprobe", function, f"{program}_return"),
        Hook("kprobe", function, f"{program}_enter"),
    )


def wp_page_copy(facts: KernelFacts) -> Part:
    """Compare each copy with a call of wp_page_copy(), where that is not inlined."""
    if "wp_page_copy" not in facts.symbols:
        return NOTHING
    return Part((Hook("kprobe", "wp_page_copy", "wp_page_copy_enter"),), {"CROSS_CHECK": 1})


def pte_changes(name: str, facts: KernelFacts) -> Part:
    """Count copies and re-marks where the page-table entry changes, under its lock."""
    if pte_changes_refused(name, facts):
        return NOTHING
    functions = _PTE_CHANGE_KPROBES if name == "kprobe" else ()
    hooks = tuple(Hook("kprobe", function, f"{function}_enter") for function in functions)
    return Part(hooks, {"PTE_CHANGES": 1})


def pte_changes_refused(name: str, facts: KernelFacts) -> str | None:
    """Why the fentry or kprobe plan cannot do that here, as a clause; None if it can."""
    if facts.machine != "x86_64":  # others have other functions, of which none was measured
        return f"on {facts.machine}, where the entry changes is not known to cowtrace"
    if not facts.symbols.get("do_wp_page"):  # by addresses, a copy is told from other changes
        return "the kernel hides its functions' addresses (kernel.kptr_restrict, CAP_SYSLOG)"
    if name == "kprobe":
        fit = facts.symbols.keys() >= set(_PTE_CHANGE_KPROBES)
    else:  # since "bpf: Allow struct argument in trampoline based programs" (6.1)
        fit = all(_takes(facts, *each) for each in _PTE_CHANGE_ARGUMENTS.items())
    return None if fit else "this kernel's functions that change the entry take no such probe"


def _takes(facts: KernelFacts, function: str, arguments: tuple[str, ...]) -> bool:
    """Whether an fentry program sees these arguments of that function first."""
    first = facts.parameters.get(function, ())[: len(arguments)]
    return function in facts.trampolines and first == arguments


def no_access(facts: KernelFacts) -> Part:
    """Count copies of pages without access rights where the fentry plan counts entries' changes."""
    takes = all(_takes(facts, *each) for each in _NO_ACCESS_ARGUMENTS.items())
    known = facts.offsets.keys() >= {*NO_ACCESS, *MAPLE, "PAGE_STRUCT_BYTES"}
    usable = takes and known and all(facts.layout) and "PG_anon_exclusive" in facts.constants
    return Part((), {"NO_ACCESS": 1}) if usable else NOTHING


def page_table(facts: KernelFacts) -> Part:
    """Predict what a write does, by page table and mapping: for the tracepoint plan."""
    if "signal_generate" not in facts.tracepoints:
        return NOTHING
    known = (
        facts.offsets.keys() >= {"MM_PGD", "VMA_MM", "PAGE_STRUCT_BYTES", *MAPLE}
        and facts.layout.page_offset_base
    )
    return Part((), {"PAGE_TABLE": 1}) if known else NOTHING


def huge_pages(name: str, facts: KernelFacts) -> Part:
    """Count faults on huge entries: hugetlb, and transparent huge pages that are not split.

    The fentry plan attaches trampolines by the functions' names, else kprobes: these need
    CAP_SYS_ADMIN where kernel.perf_event_paranoid is 3, as on Debian.
    """
    hooks: tuple[Hook, ...] = ()
    defines: dict[str, int] = {}
    thp, hugetlb = "do_huge_pmd_wp_page", _hugetlb(facts)
    if thp in facts.symbols and "VMF_PMD" in facts.offsets:
        if name == "fentry" and thp in facts.trampolines:
            defines |= {"HUGE_PMD": 1, "HUGE_PMD_FENTRY": len(facts.parameters[thp])}
        elif facts.kprobes_refused is None:
            defines["HUGE_PMD"] = 1
            hooks += pair(thp)
    if hugetlb:
        function, shape = hugetlb
        # bpf/huge.h names the function by its shape.
        named = function == ("hugetlb_cow" if shape == _OF_HUGETLB_COW else "hugetlb_wp")
        if name == "fentry" and function in facts.trampolines and named:
            defines |= {"HUGETLB_WP": shape, "HUGETLB_FENTRY": len(facts.parameters[function])}
        elif facts.kprobes_refused is None:
            defines["HUGETLB_WP"] = shape
            hooks += pair(function, "hugetlb_wp")
    return Part(hooks, {"HUGE_PAGES": 1, **defines}) if defines else NOTHING


def _hugetlb(facts: KernelFacts) -> tuple[str, int] | None:
    """The function that copies a hugetlb page, and its HUGETLB_WP.

    hugetlb_cow() became hugetlb_wp(): "mm: support GUP-triggered unsharing of anonymous pages".
    """
    if not facts.offsets.keys() >= HUGETLB.keys():
        return None
    for function in ("hugetlb_wp", "hugetlb_cow"):
        if function in facts.symbols:
            names = facts.parameters.get(function, ())
            for shape, number in _HUGETLB_SHAPES.items():
                if names[: len(shape)] == shape:
                    return function, number
    return None


def latency(name: str, facts: KernelFacts) -> Part:
    """Time faults from handle_mm_fault(). The tracepoint plan cannot: it sees no end of a fault."""
    if name == "tracepoint" or "handle_mm_fault" not in facts.symbols:
        return NOTHING
    # The fentry plan has an fentry program for it, attached by name.
    entry = (Hook("kprobe", "handle_mm_fault", "handle_mm_fault_enter"),)
    return Part(entry if name == "kprobe" else (), {"LATENCY": 1})


def tlb_flushes(name: str, facts: KernelFacts) -> Part:
    """Time the flushes of the TLB in faults: by fentry and fexit programs, attached by name."""
    function = "flush_tlb_mm_range"
    if facts.machine != "x86_64":  # a copy's flush of riscv64 is another function
        return NOTHING
    if name != "fentry" or not _takes(facts, function, _PTE_CHANGE_ARGUMENTS[function]):
        return NOTHING
    return Part((), {"TLB_FLUSHES": 1})


def fork_times(name: str, facts: KernelFacts) -> Part:
    """Time forks, and how long they hold the parent's mmap lock: entry programs alone."""
    if name == "tracepoint":  # where a new mm takes per-CPU memory: bpf/fork_call.h
        sees = {"percpu_alloc_percpu"} <= facts.tracepoints
        known = sees and "PERCPU_COUNTER_BYTES" in facts.offsets
        return Part((), {"FORK_TIMES": 1}) if known else NOTHING
    there = facts.trampolines if name == "fentry" else facts.symbols.keys()
    if "kernel_clone" not in there:
        return NOTHING
    functions = ["kernel_clone"]
    defines = {"FORK_TIMES": 1}
    if there >= set(_FORK_LOCKS):
        functions += _FORK_LOCKS
        defines["FORK_LOCKS"] = 1
    hooks = (Hook("kprobe", function, f"{function}_enter") for function in functions)
    return Part(tuple(hooks) if name == "kprobe" else (), defines)


def fork_copies(facts: KernelFacts) -> Part:
    """Count pages that fork itself copies, because they are pinned."""
    rmap = _first(facts, "folio_add_new_anon_rmap", "page_add_new_anon_rmap")
    if facts.kprobes_refused or rmap is None or "copy_page_range" not in facts.symbols:
        return NOTHING
    hooks = (*pair("copy_page_range"), Hook("kprobe", rmap, "add_new_anon_rmap_enter"))
    of_hugetlb = _first(facts, "hugetlb_add_new_anon_rmap", "hugepage_add_new_anon_rmap")
    if of_hugetlb is None or not _hugetlb(facts):  # bpf/huge.h reads the size of these pages
        return Part(hooks, {"FORK_COPIES": 1})
    of_hugetlb_hook = Hook("kprobe", of_hugetlb, "hugetlb_add_new_anon_rmap_enter")
    return Part((*hooks, of_hugetlb_hook), {"FORK_COPIES": 1, "HUGETLB_FORK_COPIES": 1})


def _first(facts: KernelFacts, *functions: str) -> str | None:
    """The first of these that the kernel has."""
    return next((function for function in functions if function in facts.symbols), None)
