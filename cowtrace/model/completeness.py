"""What the counts lack, by cause."""

from __future__ import annotations

from dataclasses import dataclass

# No losses: pages that processes allocated outside faults, and pages of zeroes among them.
OUTSIDE_FAULTS = ("outside faults", "zeroed outside faults")
# A copy-on-write fault that was not counted, or not counted right. Without its name and parent, a
# process is not found; one that the filter lacks is lost with all its faults.
LOST = (
    "return missed",
    "entry missed",
    "fault not found",
    "slot taken",
    "sums full",
    "processes full",
    "filter full",
    "check failed",
)
# Causes by which tables of mappings, stacks, forks, durations, single faults, or totals of all page
# faults show too little; tracer/losses.py names all causes.
DETAIL_LOSSES = frozenset(
    {
        "page faults full",
        "details full",
        "mappings full",
        "stacks full",
        "generations full",
        "fork not found",
        "events dropped",
        "samples dropped",
    }
)


@dataclass(frozen=True, slots=True)
class Completeness:
    """What the counts lack: every way to lose a fault is counted."""

    lost: int  # missed faults: 0 in a complete trace
    detail: tuple[tuple[str, int], ...]  # the losses by cause, those above 0
    checked: int = 0  # faults whose classification wp_page_copy() confirmed (cross_check)

    @property
    def causes(self) -> tuple[tuple[str, int], ...]:
        """`detail` without OUTSIDE_FAULTS."""
        return tuple(each for each in self.detail if each[0] not in OUTSIDE_FAULTS)

    @property
    def lost_details(self) -> int:
        """Faults, or forks, that are missing in a table of details, though not in the counts."""
        return sum(number for cause, number in self.detail if cause in DETAIL_LOSSES)
