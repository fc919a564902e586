"""Define what is counted: frozen values without I/O, all that leaves the tracer."""

from cowtrace.model.completeness import DETAIL_LOSSES, LOST, OUTSIDE_FAULTS, Completeness
from cowtrace.model.details import (
    DetailRow,
    Event,
    Mapping,
    MappingType,
    Stack,
    StackFrame,
    known_sum,
)
from cowtrace.model.faults import COPIES, FaultKind, FaultRow, Origin, Source
from cowtrace.model.forks import Ending, ForkGeneration
from cowtrace.model.private_memory import Account, Cause
from cowtrace.model.processes import (
    ENDED_PID,
    UNKNOWN_PLACE,
    PageFaults,
    Place,
    PlaceOf,
    Process,
    unknown_place,
)
from cowtrace.model.snapshot import Snapshot
from cowtrace.model.written import Phase, WriteCause, Written

__all__ = [
    "COPIES",
    "DETAIL_LOSSES",
    "ENDED_PID",
    "LOST",
    "OUTSIDE_FAULTS",
    "UNKNOWN_PLACE",
    "Account",
    "Cause",
    "Completeness",
    "DetailRow",
    "Ending",
    "Event",
    "FaultKind",
    "FaultRow",
    "ForkGeneration",
    "Mapping",
    "MappingType",
    "Origin",
    "PageFaults",
    "Phase",
    "Place",
    "PlaceOf",
    "Process",
    "Snapshot",
    "Source",
    "Stack",
    "StackFrame",
    "WriteCause",
    "Written",
    "known_sum",
    "unknown_place",
]
