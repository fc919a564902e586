"""Define what a probe plan is asked to do beyond counting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

# What else distinguishes faults, beyond kind, source and origin.
Detail = Literal[
    "generation", "mapping", "stack", "kernel-stack", "latency", "tlb-flush", "page-eighth"
]  # fmt: skip
DETAILS: tuple[Detail, ...] = get_args(Detail)


@dataclass(frozen=True, slots=True)
class Options:
    """What a plan does beyond counting; each costs nothing when it is off."""

    region: tuple[int, int] | None = None  # count only faults at addresses in [start, end)
    page_faults: bool = False  # totals of all page faults: a program in each of them
    cross_check: bool = False  # compare each copy with wp_page_copy(), where that exists (kprobe)
    outcomes: bool = False  # also count faults that failed or changed nothing
    fork_copies: bool = False  # pages that fork itself copies: a probe on every anonymous page
    details: frozenset[Detail] = frozenset()  # count by these, too: bpf/detail.h
    samples: bool = False  # sampled copies with their user stack, for DWARF unwinding
    objects: bool = False  # sampled copies with the memory that was written: bpf/written.h
    events: bool = False  # send each fault through a ring buffer
    wanted: bool = False  # count only processes in the map `wanted`
    follow: bool = False  # and their descendants
    cgroup: bool = False  # count only tasks in the cgroup in the map `cgroups`

    def defines(self) -> dict[str, int]:
        """The -D macros, except those that hooks need."""
        switches = {
            "PAGE_FAULTS": self.page_faults,
            "EVENTS": self.events,
            "SAMPLES": self.samples or self.objects,
            "SAMPLED_STACKS": self.samples,
            "OBJECTS": self.objects,
            "EXACT_ADDRESSES": self.events
            or self.samples
            or self.objects
            or "page-eighth" in self.details,
            "WANTED": self.wanted,
            "FOLLOW": self.follow,
            "CGROUP": self.cgroup,
        }
        macros = {macro: 1 for macro, on in switches.items() if on}
        if self.region:
            macros |= {"REGION_START": self.region[0], "REGION_END": self.region[1]}
        return macros


NO_OPTIONS = Options()
