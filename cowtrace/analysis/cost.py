"""Define the cost of tracing on this machine, which `cowtrace doctor --cost` measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """One way to trace, measured while a process of cowtrace's own copied pages."""

    used_by: str  # commands that trace in this way
    plan: str
    details: tuple[str, ...]  # details traced, as generation
    copies: int  # made by the workload
    traced: int  # copies of the workload that the trace counted
    faults: int  # copy-on-write faults of the whole machine meanwhile
    bpf_ns: int | None  # in all BPF programs meanwhile; None: this kernel does not measure it
    bpf_runs: int | None
    ns_per_copy_without: float  # time of a copy with nothing attached
    ns_per_copy_with: float  # with the tracer attached, BPF statistics off
    seconds: float  # during which the programs' time was measured

    @property
    def ns_per_fault(self) -> float | None:
        """Time in BPF programs. It includes runs for faults that were not copy-on-write."""
        return self.bpf_ns / self.faults if self.bpf_ns is not None and self.faults else None

    @property
    def cpu_share(self) -> float | None:
        """The share of one CPU that BPF programs took while the workload did little but copy."""
        return self.bpf_ns / 1e9 / self.seconds if self.bpf_ns is not None else None
