"""List the members of kernel structs that BPF programs read: macro of bpf/*.h, and its member.

`"struct.member"`; where a member was renamed, both names, the newer first: `"struct.new|old"`.
"""

from __future__ import annotations

from collections.abc import Mapping

_Members = Mapping[str, str]

_VMA: _Members = {"VMA_MM": "vm_area_struct.vm_mm", "VMA_FLAGS": "vm_area_struct.vm_flags"}
_FILE: _Members = {
    "VMA_FILE": "vm_area_struct.vm_file",
    "FILE_INODE": "file.f_inode",
    "INODE_SB": "inode.i_sb",
}

# Every plan needs these.
TASK: _Members = {
    "TASK_PID": "task_struct.pid",
    "TASK_TGID": "task_struct.tgid",
    "TASK_COMM": "task_struct.comm",
    "TASK_GROUP_LEADER": "task_struct.group_leader",
    "TASK_START_BOOTTIME": "task_struct.start_boottime",
    "TASK_MM": "task_struct.mm",
    "TASK_SIGNAL": "task_struct.signal",
    "TASK_PAGEFAULT_DISABLED": "task_struct.pagefault_disabled",
    "SIGNAL_LIVE": "signal_struct.live",
}
# The fentry and the kprobe plan.
VM_FAULT: _Members = {
    "VMF_VMA": "vm_fault.vma",
    "VMF_ADDRESS": "vm_fault.address",
    "VMF_FLAGS": "vm_fault.flags",
    "VMF_ORIG_PTE": "vm_fault.orig_pte",
    "VMF_PTE": "vm_fault.pte",
    "VMF_PAGE": "vm_fault.page",
    "VMF_COW_PAGE": "vm_fault.cow_page",
    "MM_USERS": "mm_struct.mm_users",
    **_VMA,
}
# The size of a hugetlb page.
HUGETLB: _Members = {
    "SB_FS_INFO": "super_block.s_fs_info",
    "HUGETLBFS_HSTATE": "hugetlbfs_sb_info.hstate",
    "HSTATE_ORDER": "hstate.order",
    **_FILE,
}
# The mapping at an address: 6.1 and later.
MAPLE: _Members = {
    "MM_MT": "mm_struct.mm_mt",
    "MT_ROOT": "maple_tree.ma_root",
    "RANGE_PIVOT": "maple_range_64.pivot",
    "RANGE_SLOT": "maple_range_64.slot",
    "ARANGE_SLOT": "maple_arange_64.slot",
    "VMA_FILE": _FILE["VMA_FILE"],
    "VMA_FLAGS": _VMA["VMA_FLAGS"],
}
# The range, type and name of a mapping.
MAPPING: _Members = {
    "VMA_START": "vm_area_struct.vm_start",
    "VMA_END": "vm_area_struct.vm_end",
    "FILE_PATH": "file.f_path",
    "PATH_DENTRY": "path.dentry",
    "DENTRY_QSTR": "dentry.d_name",
    "QSTR_NAME": "qstr.name",
    "INODE_NUMBER": "inode.i_ino",
    "SB_DEVICE": "super_block.s_dev",
    "MM_BRK": "mm_struct.brk",
    "MM_START_BRK": "mm_struct.start_brk",
    "MM_START_STACK": "mm_struct.start_stack",
    **_VMA,
    **_FILE,
}
# Copies of pages without access rights, in the fentry plan; MAPLE's as well.
NO_ACCESS: _Members = {
    "MM_PGD": "mm_struct.pgd",
    "TASK_MIN_FLT": "task_struct.min_flt",
    "TASK_MAJ_FLT": "task_struct.maj_flt",
}
# A page table's place and the struct pages, where the kernel hides its variables.
STACK_PAGES: _Members = {
    "TASK_STACK_VM_AREA": "task_struct.stack_vm_area",  # CONFIG_VMAP_STACK
    "VM_STRUCT_PAGES": "vm_struct.pages",
}
# Programs work without these, but report less.
OPTIONAL: _Members = {
    "VMF_PMD": "vm_fault.pmd",
    "VMF_REAL_ADDRESS": "vm_fault.real_address",  # 5.18 and later
    "TASK_THREAD": "task_struct.thread",
    "THREAD_POINTER": "thread_struct.fsbase|uw",  # x86-64; arm64: its first member is tp_value
    "MM_OWNER": "mm_struct.owner",  # CONFIG_MEMCG
    "PAGE_COMPOUND_HEAD": "page.compound_info|compound_head",
    "PAGE_MAPPING": "page.mapping",
    "PAGE_INDEX": "page.__folio_index|index",
    "VMA_ANON_NAME": "vm_area_struct.anon_name",  # CONFIG_ANON_VMA_NAME, 5.17 and later
    "ANON_NAME_TEXT": "anon_vma_name.name",
    "MM_RSS_STAT": "mm_struct.rss_stat",
    "MM_PGTABLES_BYTES": "mm_struct.pgtables_bytes",
    "PERCPU_COUNTER_COUNT": "percpu_counter.count",
    "PERCPU_COUNTER_PARTS": "percpu_counter.counters",
    "TASK_STACK": "task_struct.stack",
    "MM_KSM_ZERO_PAGES": "mm_struct.ksm_zero_pages",  # CONFIG_KSM, 6.6 and later
    **NO_ACCESS,
    **STACK_PAGES,
}
MEMBERS: _Members = {**TASK, **VM_FAULT, **HUGETLB, **MAPLE, **MAPPING, **OPTIONAL}
