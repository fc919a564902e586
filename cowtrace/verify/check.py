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
class Check:
    """One check on one kernel."""

    group: str  # C1 to C8, or the name of a path
    name: str  # of its workload
    claim: str  # one plain sentence
    did: str
    expected: str = ""  # each process with the kinds of fault it must have
    observed: str = ""  # each process with the kinds traced; `-` if the plan cannot see one
    evidence: tuple[Evidence, ...] = ()  # of oracles that do not read the tracer's maps
    verdict: Verdict
    why: str  # each difference, or why nothing can be seen; empty if the claim holds
    findings: tuple[str, ...] = ()  # what this kernel did where the claim allows either outcome
    kernel: str  # uname -r
    plan: str  # fentry, kprobe or tracepoint
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**dataclasses.asdict(self), "verdict": self.verdict.value}


def from_dict(fields: dict[str, Any]) -> Check:
    """The inverse of `Check.as_dict`; raises KeyError, TypeError, ValueError on anything else."""
    names = {field.name for field in dataclasses.fields(Check)}
    known = {name: value for name, value in fields.items() if name in names}
    known["evidence"] = tuple(Evidence(**one) for one in fields["evidence"])
    known["findings"] = tuple(fields["findings"])
    known["verdict"] = Verdict(fields["verdict"])
    return Check(**known)
