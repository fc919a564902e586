"""Define Check, the result of one workload: its claim, its evidence and the verdict. No I/O."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import Any

from cowtrace.workloads.outcome import Evidence


class Verdict(enum.Enum):
    """What follows from a check; the value is what users read."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNSEEN = "cannot be seen here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Faults of one kind in all processes of one role. None: unknown, never 0."""

    role: str  # parent, child
    kind: str  # FaultKind.label
    expected: int | None  # None: this kernel may do either
    traced: int | None  # None: the plan cannot see it
    pagemap: int | None = None  # None: frame numbers are hidden, or do not show the kind
    upper_bound: bool = False  # the plan counts lost races, too
    sources: tuple[str, ...] = ()  # whose bytes the traced pages held; empty: unknown
    origins: tuple[str, ...] = ()  # what made the traced faults: user, kernel, fork

    @property
    def seen(self) -> int | None:
        """What the trace counted; where it cannot, or not exactly, what pagemap did."""
        return self.pagemap if self.traced is None or self.upper_bound else self.traced


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check on one kernel."""

    group: str  # C1 to C8, or the name of a path
    name: str  # of its workload
    claim: str  # one plain sentence
    did: str  # what its workload does, with the number of pages
    expected: str = ""  # each process with the kinds of fault it must have
    observed: str = ""  # each process with the kinds traced; `-` if the plan cannot see one
    pages: int | None = None  # of the workload; None: it did not run to its end
    counts: tuple[Count, ...] = ()  # those that `expected` and `observed` describe
    evidence: tuple[Evidence, ...] = ()  # of oracles that do not read the tracer's maps
    verdict: Verdict
    blind: bool = False  # the plan, by its design, sees nothing of what the check is about
    why: str  # each difference, or why nothing can be seen; empty if the claim holds
    findings: tuple[str, ...] = ()  # what this kernel did where the claim allows either outcome
    kernel: str  # uname -r
    plan: str  # fentry, kprobe or tracepoint
    seconds: float

    @property
    def silent(self) -> bool:
        """True if it says nothing about this kernel.

        The plan is blind, or its trace lost faults and says so, or the workload could not run.
        """
        return self.blind or self.verdict is Verdict.UNSEEN

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**dataclasses.asdict(self), "verdict": self.verdict.value}


def from_dict(fields: dict[str, Any]) -> Check:
    """The inverse of `Check.as_dict`; raises KeyError, TypeError, ValueError on anything else."""
    names = {field.name for field in dataclasses.fields(Check)}
    known = {name: value for name, value in fields.items() if name in names}
    known["evidence"] = tuple(Evidence(**one) for one in fields["evidence"])
    known["counts"] = tuple(map(_count, fields["counts"]))
    known["findings"] = tuple(fields["findings"])
    known["verdict"] = Verdict(fields["verdict"])
    return Check(**known)


def _count(fields: dict[str, Any]) -> Count:
    lists = {name: tuple(fields[name]) for name in ("sources", "origins")}
    return Count(**fields | lists)
