"""Take every other path by which Linux copies, or does not copy, on write: a module each."""

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
from cowtrace.workloads.workload import WORKLOADS

NAMES = tuple(
    name for name, workload in WORKLOADS.items() if workload.act.__module__.startswith(__name__)
)

__all__ = [
    "NAMES",
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
