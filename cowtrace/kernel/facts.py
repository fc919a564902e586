"""Find what the running kernel offers, in its BTF and /proc: a frozen `KernelFacts`, no decisions.

It looks for symbols, tracepoints and struct members, and never compares a version number.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cowtrace.kernel import memory_layout
from cowtrace.kernel.addresses import CODE, VARIABLES
from cowtrace.kernel.btf import Btf, vmlinux
from cowtrace.kernel.kallsyms import symbols
from cowtrace.kernel.libbpf import libbpf
from cowtrace.kernel.members import MEMBERS
from cowtrace.kernel.preemption import preemptible, real_time
from cowtrace.kernel.trial_programs import Cast, fexit_refused, kprobes_refused, rdonly_cast

# Macro of bpf/*.h: its enum, and its value where it was still a #define (5.10), or None.
ENUMERATORS: Mapping[str, tuple[str, int | None]] = {
    "FAULT_FLAG_WRITE": ("fault_flag", 0x1),
    "FAULT_FLAG_USER": ("fault_flag", 0x40),
    "FAULT_FLAG_REMOTE": ("fault_flag", 0x80),
    "FAULT_FLAG_UNSHARE": ("fault_flag", 0),
    "VM_FAULT_OOM": ("vm_fault_reason", 0x1),
    "VM_FAULT_SIGBUS": ("vm_fault_reason", 0x2),
    "VM_FAULT_HWPOISON": ("vm_fault_reason", 0x10),
    "VM_FAULT_HWPOISON_LARGE": ("vm_fault_reason", 0x20),
    "VM_FAULT_SIGSEGV": ("vm_fault_reason", 0x40),
    "VM_FAULT_NOPAGE": ("vm_fault_reason", 0x100),
    "VM_FAULT_RETRY": ("vm_fault_reason", 0x400),
    "VM_FAULT_FALLBACK": ("vm_fault_reason", 0x800),
    "PG_head": ("pageflags", None),
    "PG_anon_exclusive": ("pageflags", None),
}

FUNCTIONS = (
    "do_wp_page",
    "wp_page_copy",
    "finish_fault",
    "do_huge_pmd_wp_page",
    "hugetlb_wp",
    "hugetlb_cow",
    "copy_page_range",
    "folio_add_new_anon_rmap",
    "page_add_new_anon_rmap",
    "hugetlb_add_new_anon_rmap",
    "hugepage_add_new_anon_rmap",
    "handle_mm_fault",
    "ptep_clear_flush",
    "ptep_set_access_flags",
    "flush_tlb_mm_range",
    "__access_remote_vm",
    "ksm_madvise",
    "kernel_clone",
    "uprobe_dup_mmap",
    "uprobe_end_dup_mmap",
)
# Optional in the fentry plan. The first ones have a program at entry and one at return.
TRAMPOLINE_PAIRS = (
    "do_huge_pmd_wp_page",
    "hugetlb_wp",
    "hugetlb_cow",
    "__access_remote_vm",
    "ksm_madvise",
)
TRAMPOLINES = (
    *TRAMPOLINE_PAIRS,
    *("ptep_set_access_flags", "flush_tlb_mm_range"),
    *("kernel_clone", "uprobe_dup_mmap", "uprobe_end_dup_mmap"),
)
TRACEPOINTS = (
    "page_fault_user",
    "page_fault_kernel",
    "mm_page_alloc",
    "sched_process_fork",
    "sched_process_exit",
    "sched_process_exec",
    "sched_process_free",
    "task_rename",
    "signal_generate",
    "percpu_alloc_percpu",
)

SYMBOLS = (*FUNCTIONS, *VARIABLES, *memory_layout.VARIABLES, *CODE)
_REGISTERS = 6  # arguments that x86-64 passes in registers; arm64 has 8


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """What cowtrace needs to know of one kernel."""

    release: str  # uname -r
    machine: str  # uname -m
    page_bytes: int
    offsets: Mapping[str, int]  # macro -> bytes, without members that this kernel lacks
    constants: Mapping[str, int]  # macro -> value
    parameters: Mapping[str, tuple[str, ...]]  # function -> names, if BTF has it
    symbols: Mapping[str, int]  # SYMBOLS in /proc/kallsyms: address
    layout: memory_layout.MemoryLayout
    tracepoints: frozenset[str]  # those of TRACEPOINTS that are compiled in
    kprobes_refused: str | None  # why kprobes cannot be opened; None if they can
    fexit_refused: str | None  # why BPF trampolines do not work; None if they do
    trampolines: frozenset[str]  # those of TRAMPOLINES that take an fexit program
    cast: Cast | None  # bpf_rdonly_cast(), if programs can call it
    preemptible: bool  # threads can be preempted in the kernel, so in BPF trampolines
    real_time: bool  # also while they hold a spinlock
    pid_max: int
    cpus: int  # possible ones


def kernel_facts() -> KernelFacts:
    """Of the running kernel. Raises CowtraceError if it has no BTF, or libbpf is missing."""
    btf = vmlinux()
    uname = os.uname()
    refused = fexit_refused(btf, "do_wp_page")
    offsets, known = _offsets(btf), symbols(SYMBOLS)
    return KernelFacts(
        release=uname.release,
        machine=uname.machine,
        page_bytes=os.sysconf("SC_PAGESIZE"),
        offsets=offsets,
        constants=_constants(btf),
        parameters={f: p for f in FUNCTIONS if (p := btf.parameters(f)) is not None},
        symbols=known,
        layout=memory_layout.memory_layout(known, offsets),
        tracepoints=frozenset(t for t in TRACEPOINTS if btf.has_tracepoint(t)),
        kprobes_refused=kprobes_refused(),
        fexit_refused=refused,
        trampolines=frozenset() if refused else _trampolines(btf),
        cast=rdonly_cast(btf),
        preemptible=preemptible(),
        real_time=real_time(),
        pid_max=int(Path("/proc/sys/kernel/pid_max").read_text()),
        cpus=libbpf().libbpf_num_possible_cpus(),
    )


def _trampolines(btf: Btf) -> frozenset[str]:
    """Not of a function with a struct argument before 6.1, or with more than six before 6.6.

    The kernel refuses the former when it loads the program, the latter when it attaches it.
    """
    return frozenset(
        name
        for name in TRAMPOLINES
        if fexit_refused(btf, name, attach=len(btf.parameters(name) or ()) > _REGISTERS) is None
    )


def _offsets(btf: Btf) -> dict[str, int]:
    found = {}
    for macro, member in MEMBERS.items():
        structure, _, names = member.partition(".")
        offsets = (btf.offset(structure, name) for name in names.split("|"))
        offset = next((o for o in offsets if o is not None), None)
        if offset is not None:
            found[macro] = offset
    for macro, structure in (("PT_REGS_BYTES", "pt_regs"), ("PAGE_STRUCT_BYTES", "page")):
        if size := btf.size(structure):
            found[macro] = size
    # Since "mm: convert mm's rss stats into percpu_counter", 6.2; plain numbers before.
    if btf.size("mm_rss_stat") is None and (counter := btf.size("percpu_counter")):
        found["PERCPU_COUNTER_BYTES"] = counter
    return found


def _constants(btf: Btf) -> dict[str, int]:
    values = {
        macro: value if (found := btf.enumerator(enum, macro)) is None else found
        for macro, (enum, value) in ENUMERATORS.items()
    }
    return {macro: value for macro, value in values.items() if value is not None}
