"""List what a plan cannot see on one kernel, as sentences for `cowtrace doctor` and -v."""

from __future__ import annotations

from collections.abc import Mapping

from cowtrace.kernel.facts import KernelFacts
from cowtrace.kernel.members import MAPLE
from cowtrace.model import FaultKind

# Pairing slots, by the low bits of a thread id: bpf/pair.h.
SLOTS = 1 << 16


def limits(
    name: str, facts: KernelFacts, defines: Mapping[str, int]
) -> tuple[frozenset[FaultKind], tuple[str, ...]]:
    """(kinds that it does not distinguish, limits of its counts: a sentence each)."""
    spots = []
    unseen: set[FaultKind] = set()
    if name == "tracepoint":
        unseen |= {FaultKind.UNCHANGED}
        if "PAGE_TABLE" in defines:
            spots = [
                "reused and shared are upper bounds when threads race for a page, a signal "
                "interrupts a fault or a write to a file fails",
                "copies and re-marks of private hugetlb pages are not seen",
                "copies of pages that are swapped out when they are written are not seen",
                "faults that userfaultfd handles count as reused or shared",
            ]
        else:
            unseen |= {FaultKind.SHARED}
            spots = [
                "writes to shared mappings are not distinguished: those that re-mark count as "
                "reused",
                "reused is an upper bound: it includes spurious and retried faults",
                "copies of hugetlb pages, huge pages of zeroes, and faults that userfaultfd "
                "handles count as reused",
            ]
            if facts.offsets.keys() >= MAPLE.keys():
                spots.append("a swapped-out page of a private file counts as file-copied on write")
        spots += [
            "copied is an upper bound when threads race for a page: it includes the losers' copies",
            "faults that the kernel makes inside a system call are not seen: populate, mlock, "
            "madvise, mremap, userfaultfd's ioctls, KSM's unmerging, another process's write "
            "(ptrace, process_vm_writev, /proc/PID/mem); an upper bound stands below each table",
            "pages copied because they are pinned for reading are not seen",
        ]
        if "USER_STACKS" in defines:
            spots.append("copies that the kernel makes for a process have no stack")
        if not facts.offsets.keys() >= MAPLE.keys():
            unseen.add(FaultKind.FILE_COPIED)
    if "PTE_CHANGES" in defines:
        unseen |= {FaultKind.UNCHANGED, FaultKind.FAILED}
        if name == "fentry":
            spots.append(_without_access("NO_ACCESS" in defines))
    if name != "kprobe" and facts.preemptible:
        spots.append(
            "on a preemptible kernel, faults are lost when a thread is preempted in a program"
        )
    if name == "kprobe" and facts.preemptible:
        spots.append(
            "on a preemptible kernel, faults are lost while another user of BPF maps is preempted; "
            "before Linux 6.7, these losses are not counted"
        )
    if "HUGETLB_WP" not in defines and name != "tracepoint":
        spots.append("copies of hugetlb pages are not seen" + _without_kprobes(name, facts))
    if "HUGE_PMD" not in defines and name != "tracepoint":
        spots.append(
            "writes that re-mark or fill a transparent huge page as a whole are not seen"
            + _without_kprobes(name, facts)
        )
    if "FORK_COPIES" not in defines:
        spots.append("pages that fork itself copies, because they are pinned, are not seen")
    elif "HUGETLB_FORK_COPIES" not in defines:
        spots.append("hugetlb pages that fork itself copies, because they are pinned, are not seen")
    in_parts = "GENERATIONS" in defines and "PERCPU_COUNTER_BYTES" in defines
    if in_parts and not facts.symbols.get("__per_cpu_offset"):
        # percpu_counter_batch in lib/percpu_counter.c, for each CPU
        off = max(32, 2 * facts.cpus) * facts.cpus * facts.page_bytes
        spots.append(f"memory shareable at fork can be wrong by up to {off >> 10} KiB")
    if "GENERATIONS" in defines and "FORK_TIMES" not in defines:
        spots.append("forks are not timed")
    elif "FORK_TIMES" in defines and name == "tracepoint":
        spots.append("the time of a fork is a lower bound: it begins where memory is copied")
    if name == "tracepoint" and facts.pid_max > SLOTS:
        spots.append(
            f"thread ids that differ by a multiple of {SLOTS} share a slot: if both fault at "
            "the same moment, a copy may count as reused"
        )
    return frozenset(unseen), tuple(spots)


def _without_access(seen: bool) -> str:
    """Which copies of pages without access rights are not seen: bpf/no_access.h."""
    ways = (
        "KSM takes a merge back or is switched off, or a driver or a uprobe writes"
        if seen
        else "another process writes them, or KSM unmerges them"
    )
    return f"copies of pages without access rights (PROT_NONE) are not seen where {ways}"


def _without_kprobes(name: str, facts: KernelFacts) -> str:
    """What would show it: kprobes, where trampolines cannot and only root may open kprobes."""
    return f": {facts.kprobes_refused}" if name == "fentry" and facts.kprobes_refused else ""
