"""What is in the running kernel, asked of its BTF and /proc: a frozen `KernelFacts`, no decisions.

Presence is asked of symbols, tracepoints and struct members, never of a version number.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cowtrace.kernel.btf import Btf, vmlinux
from cowtrace.kernel.casts import Cast, rdonly_cast
from cowtrace.kernel.libbpf import libbpf
from cowtrace.kernel.preemption import preemptible
from cowtrace.kernel.symbols import symbols
from cowtrace.kernel.trampoline import fexit_refused

# Macro of bpf/*.h: the struct, and the member's names, newest first.
MEMBERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "VMF_VMA": ("vm_fault", ("vma",)),
    "VMF_ADDRESS": ("vm_fault", ("address",)),
    "VMF_FLAGS": ("vm_fault", ("flags",)),
    "VMF_ORIG_PTE": ("vm_fault", ("orig_pte",)),
    "VMF_PTE": ("vm_fault", ("pte",)),
    "VMF_PAGE": ("vm_fault", ("page",)),
    "VMF_PMD": ("vm_fault", ("pmd",)),
    "VMF_COW_PAGE": ("vm_fault", ("cow_page",)),
    "VMA_MM": ("vm_area_struct", ("vm_mm",)),
    "VMA_FLAGS": ("vm_area_struct", ("vm_flags",)),
    "MM_USERS": ("mm_struct", ("mm_users",)),
    "MM_OWNER": ("mm_struct", ("owner",)),  # CONFIG_MEMCG
    "VMA_FILE": ("vm_area_struct", ("vm_file",)),
    "FILE_INODE": ("file", ("f_inode",)),
    "INODE_SB": ("inode", ("i_sb",)),
    "SB_FS_INFO": ("super_block", ("s_fs_info",)),
    "HUGETLBFS_HSTATE": ("hugetlbfs_sb_info", ("hstate",)),
    "HSTATE_ORDER": ("hstate", ("order",)),
    "VMA_START": ("vm_area_struct", ("vm_start",)),
    "VMA_END": ("vm_area_struct", ("vm_end",)),
    "VMA_ANON_NAME": ("vm_area_struct", ("anon_name",)),  # CONFIG_ANON_VMA_NAME, 5.17 and later
    "ANON_NAME_TEXT": ("anon_vma_name", ("name",)),
    "FILE_PATH": ("file", ("f_path",)),
    "PATH_DENTRY": ("path", ("dentry",)),
    "DENTRY_QSTR": ("dentry", ("d_name",)),
    "QSTR_NAME": ("qstr", ("name",)),
    "INODE_NUMBER": ("inode", ("i_ino",)),
    "SB_DEVICE": ("super_block", ("s_dev",)),
    "MM_BRK": ("mm_struct", ("brk",)),
    "MM_START_BRK": ("mm_struct", ("start_brk",)),
    "MM_START_STACK": ("mm_struct", ("start_stack",)),
    "MM_RSS_STAT": ("mm_struct", ("rss_stat",)),
    "PERCPU_COUNTER_COUNT": ("percpu_counter", ("count",)),
    "PERCPU_COUNTER_PARTS": ("percpu_counter", ("counters",)),
    "TASK_STACK": ("task_struct", ("stack",)),
    "MM_MT": ("mm_struct", ("mm_mt",)),
    "MT_ROOT": ("maple_tree", ("ma_root",)),
    "RANGE_PIVOT": ("maple_range_64", ("pivot",)),
    "RANGE_SLOT": ("maple_range_64", ("slot",)),
    "ARANGE_SLOT": ("maple_arange_64", ("slot",)),
    "PAGE_COMPOUND_HEAD": ("page", ("compound_info", "compound_head")),
    "PAGE_MAPPING": ("page", ("mapping",)),
    "TASK_PID": ("task_struct", ("pid",)),
    "TASK_TGID": ("task_struct", ("tgid",)),
    "TASK_COMM": ("task_struct", ("comm",)),
    "TASK_GROUP_LEADER": ("task_struct", ("group_leader",)),
    "TASK_START_BOOTTIME": ("task_struct", ("start_boottime",)),
    "TASK_MM": ("task_struct", ("mm",)),
    "TASK_SIGNAL": ("task_struct", ("signal",)),
    "TASK_PAGEFAULT_DISABLED": ("task_struct", ("pagefault_disabled",)),
    "SIGNAL_LIVE": ("signal_struct", ("live",)),
}

# Macro: the enum that defines it, and its value where that was still a #define (5.10), or None.
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
    "handle_mm_fault",
)
VARIABLES = ("huge_zero_pfn", "__per_cpu_offset")

TRACEPOINTS = (
    "page_fault_user",
    "page_fault_kernel",
    "mm_page_alloc",
    "sched_process_fork",
    "sched_process_exit",
    "sched_process_exec",
    "task_rename",
)


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """One kernel, as far as cowtrace cares."""

    release: str  # uname -r
    machine: str  # uname -m
    page_bytes: int
    offsets: Mapping[str, int]  # macro -> bytes; what this kernel lacks is not in it
    constants: Mapping[str, int]  # macro -> value
    parameters: Mapping[str, tuple[str, ...]]  # function -> its parameters, where BTF has it
    symbols: Mapping[str, int]  # of FUNCTIONS and VARIABLES, those in /proc/kallsyms: address
    tracepoints: frozenset[str]  # of TRACEPOINTS, those compiled in
    kprobes: bool  # CONFIG_KPROBES
    fexit_refused: str | None  # why BPF trampolines do not work here; None when they do
    cast: Cast | None  # bpf_rdonly_cast(), where programs can call it
    preemptible: bool  # a thread can be preempted in the kernel, so in a BPF trampoline
    pid_max: int
    cpus: int  # possible ones


def kernel_facts() -> KernelFacts:
    """Ask the running kernel. Raises CowtraceError when it has no BTF, or libbpf is missing."""
    btf = vmlinux()
    uname = os.uname()
    return KernelFacts(
        release=uname.release,
        machine=uname.machine,
        page_bytes=os.sysconf("SC_PAGESIZE"),
        offsets=_offsets(btf),
        constants=_constants(btf),
        parameters={f: p for f in FUNCTIONS if (p := btf.parameters(f)) is not None},
        symbols=symbols((*FUNCTIONS, *VARIABLES)),
        tracepoints=frozenset(t for t in TRACEPOINTS if btf.has_tracepoint(t)),
        # The perf event source by which kprobes are opened: no tracefs needed.
        kprobes=Path("/sys/bus/event_source/devices/kprobe").exists(),
        fexit_refused=fexit_refused(btf, "do_wp_page"),
        cast=rdonly_cast(btf),
        preemptible=preemptible(),
        pid_max=int(Path("/proc/sys/kernel/pid_max").read_text()),
        cpus=libbpf().libbpf_num_possible_cpus(),
    )


def _offsets(btf: Btf) -> dict[str, int]:
    found = {}
    for macro, (structure, names) in MEMBERS.items():
        offsets = (btf.offset(structure, name) for name in names)
        offset = next((o for o in offsets if o is not None), None)
        if offset is not None:
            found[macro] = offset
    if pt_regs := btf.size("pt_regs"):
        found["PT_REGS_BYTES"] = pt_regs
    # "mm: convert mm's rss stats into percpu_counter", 6.2: before, they were plain numbers.
    if btf.size("mm_rss_stat") is None and (counter := btf.size("percpu_counter")):
        found["PERCPU_COUNTER_BYTES"] = counter
    return found


def _constants(btf: Btf) -> dict[str, int]:
    values = {
        macro: value if (found := btf.enumerator(enum, macro)) is None else found
        for macro, (enum, value) in ENUMERATORS.items()
    }
    return {macro: value for macro, value in values.items() if value is not None}
