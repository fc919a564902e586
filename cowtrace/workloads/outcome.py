"""Define what a workload is expected to count and what it observed, and their JSON. No I/O."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from cowtrace.model import FaultKind, Origin, Source
from cowtrace.workloads.region import PAGE_BYTES

# The kinds whose counts are known before a workload runs. UNCHANGED: races and retries happen.
KINDS = (
    FaultKind.COPIED,
    FaultKind.FILE_COPIED,
    FaultKind.ZERO_FILLED,
    FaultKind.REUSED,
    FaultKind.SHARED,
)


def total(numbers: Iterable[int | None]) -> int | None:
    """Their sum; None where one is unknown."""
    known = list(numbers)
    return None if None in known else sum(number or 0 for number in known)


@dataclass(frozen=True, slots=True)
class Counts:
    """Pages of a workload's region by kind of fault. None: unknown, never 0."""

    copied: int | None = 0
    file_copied: int | None = 0
    zero_filled: int | None = 0
    reused: int | None = 0
    shared: int | None = 0

    def of(self, kind: FaultKind) -> int | None:
        """The count of one of KINDS."""
        value: int | None = getattr(self, kind.name.lower())
        return value

    def __add__(self, other: Counts) -> Counts:
        """Kind by kind; None where either is."""
        return Counts(*(total((self.of(kind), other.of(kind))) for kind in KINDS))


@dataclass(frozen=True, slots=True)
class ExpectedRow:
    """Faults of one process with one kind, source, origin and actor."""

    kind: FaultKind
    source: Source
    origin: Origin
    faults: int | None = None  # None: any number, also 0
    bytes: int | None = None  # likewise
    actor: str = ""  # role of the process that made a remote fault


@dataclass(frozen=True, slots=True)
class Expected(Counts):
    """What one process of a workload must count, known before it runs.

    For each kind that occurs in `rows`, `rows` is complete; of other kinds only counts are known.
    """

    role: str = dataclasses.field(kw_only=True)  # parent, child, grandchild
    rows: tuple[ExpectedRow, ...] = dataclasses.field(default=(), kw_only=True)


def expected(role: str, *rows: ExpectedRow, **counts: Any) -> Expected:
    """What each process of a role must count: by rows, by counts of whole kinds, or both.

    A kind that occurs only in `rows` gets their sum.
    """
    for kind in {row.kind for row in rows} & {*KINDS}:
        counts.setdefault(kind.name.lower(), total(row.faults for row in rows if row.kind is kind))
    return Expected(role=role, rows=rows, **counts)


parent, child = partial(expected, "parent"), partial(expected, "child")


def copied(
    faults: int,
    source: Source = Source.ANON,
    origin: Origin = Origin.USER,
    *,
    page_bytes: int = PAGE_BYTES,
    actor: str = "",
) -> ExpectedRow:
    """A row of pages that were each copied whole."""
    return ExpectedRow(FaultKind.COPIED, source, origin, faults, faults * page_bytes, actor)


def reused(faults: int, source: Source = Source.ANON) -> ExpectedRow:
    """A row of faults that only re-marked a page writable."""
    return ExpectedRow(FaultKind.REUSED, source, Origin.USER, faults, 0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one oracle counted in a workload. An oracle never reads the tracer's maps."""

    oracle: str  # pagemap, taskstats, vmstat, smaps, data, rusage, /proc/...
    what: str  # one phrase: what it counts, or why it has no count here
    expected: int | str | None
    observed: int | str | None
    ok: bool | None  # None: this oracle has no count here


# Stray faults that a thread may make while it writes: the kernel can reclaim, move or protect the
# interpreter's memory at any moment.
_STRAY_FAULTS = 3


def of_thread(expected: int | None, observed: int | None) -> bool | None:
    """True if a count of a whole thread (getrusage, taskstats) agrees with that of the region.

    None: it cannot decide. A few more may be stray faults; fewer, or many more, contradict.
    """
    if expected is None or observed is None or expected < observed <= expected + _STRAY_FAULTS:
        return None
    return expected == observed


def compared(
    oracle: str, what: str, expected: int | str | None, observed: int | str | None
) -> Evidence:
    """Evidence that agrees when both are equal; None where either is unknown."""
    known = expected is not None and observed is not None
    return Evidence(oracle, what, expected, observed, expected == observed if known else None)


@dataclass(frozen=True, slots=True)
class Observed:
    """One process of a workload that has run."""

    role: str
    pid: int
    expected: Expected
    pagemap: Counts | None  # from frame numbers; None without the right to see them
    write_ns: int  # spent in its watched writes, page faults included
    written_pages: int  # by these writes; a page written twice counts twice
    data_right: bool  # every time that it read back, it read the expected value
    wp_copies: int | None = None  # in its watched writes, as taskstats counts; None: unknown
    page_faults: int | None = None  # in its watched writes, as getrusage(2) counts; likewise
    re_marks: int | None = None  # by all processes meanwhile, as /proc/vmstat counts; likewise

    @property
    def ns_per_page(self) -> float | None:
        """Mean nanoseconds to write a page; None when it wrote none."""
        return self.write_ns / self.written_pages if self.written_pages else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A workload that has run; its processes in order of creation, the parent first."""

    name: str
    pages: int
    page_bytes: int
    processes: tuple[Observed, ...]
    evidence: tuple[Evidence, ...] = ()
    findings: tuple[str, ...] = ()  # what this kernel did where kernels differ

    @property
    def data_right(self) -> bool:
        """Every process read back the expected values."""
        return all(process.data_right for process in self.processes)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self))


def outcome_from_json(text: str) -> Outcome:
    """The inverse of `Outcome.to_json`; raises ValueError, KeyError or TypeError on other text."""
    fields: dict[str, Any] = json.loads(text)
    processes = tuple(map(_observed, fields["processes"]))
    evidence = tuple(Evidence(**one) for one in fields["evidence"])
    findings = tuple(fields["findings"])
    return Outcome(**fields | {"processes": processes, "evidence": evidence, "findings": findings})


def _observed(fields: dict[str, Any]) -> Observed:
    enums = {"kind": FaultKind, "source": Source, "origin": Origin}
    rows = (
        ExpectedRow(**row | {name: enum(row[name]) for name, enum in enums.items()})
        for row in fields["expected"]["rows"]
    )
    known = Expected(**fields["expected"] | {"rows": tuple(rows)})
    pagemap = fields["pagemap"] and Counts(**fields["pagemap"])
    return Observed(**fields | {"expected": known, "pagemap": pagemap})
