"""Every other path by which Linux copies, or does not copy, on write: a module each."""

from cowtrace.workloads.paths import (
    exclusive,
    failing,
    hugetlb,
    ksm,
    pins,
    processes,
    remote,
    shared,
    stack,
    swap,
    thp,
    tracking,
)

__all__ = [
    "exclusive",
    "failing",
    "hugetlb",
    "ksm",
    "pins",
    "processes",
    "remote",
    "shared",
    "stack",
    "swap",
    "thp",
    "tracking",
]
