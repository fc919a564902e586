"""Which members of the kernel's structs each feature needs, by their macro in facts.MEMBERS."""

from __future__ import annotations

TASK = frozenset(
    (
        "TASK_PID",
        "TASK_TGID",
        "TASK_COMM",
        "TASK_GROUP_LEADER",
        "TASK_START_BOOTTIME",
        "TASK_SIGNAL",
        "TASK_PAGEFAULT_DISABLED",
        "TASK_MM",
        "SIGNAL_LIVE",
    )
)
VM_FAULT = frozenset(
    (
        "VMF_VMA",
        "VMF_ADDRESS",
        "VMF_FLAGS",
        "VMF_ORIG_PTE",
        "VMF_PTE",
        "VMF_PAGE",
        "VMF_COW_PAGE",
        "VMA_MM",
        "VMA_FLAGS",
        "MM_USERS",
    )
)
# To find a mapping by its address: 6.1 and later.
MAPLE = frozenset(
    ("MM_MT", "MT_ROOT", "RANGE_PIVOT", "RANGE_SLOT", "ARANGE_SLOT", "VMA_FILE", "VMA_FLAGS")
)
# What a fault's mapping is called.
MAPPING = frozenset(
    (
        "VMA_MM",
        "VMA_START",
        "VMA_END",
        "VMA_FLAGS",
        "VMA_FILE",
        "FILE_PATH",
        "PATH_DENTRY",
        "DENTRY_QSTR",
        "QSTR_NAME",
        "FILE_INODE",
        "INODE_NUMBER",
        "INODE_SB",
        "SB_DEVICE",
        "MM_BRK",
        "MM_START_BRK",
        "MM_START_STACK",
    )
)
