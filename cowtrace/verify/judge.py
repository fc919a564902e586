"""Judge a finished workload by its trace: a Check, with the reasons. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from cowtrace.model import COPIES, FaultKind, Snapshot, Source
from cowtrace.verify import claim_c6
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.counts import counts
from cowtrace.verify.prose import expected_words, observed_words
from cowtrace.workloads.comparison import Detail, Row, comparison
from cowtrace.workloads.outcome import Outcome
from cowtrace.workloads.workload import Workload

_LARGE = (Source.HUGETLB, Source.THP)  # may be replaced whole
_NEVER = (FaultKind.UNCLASSIFIED, FaultKind.FAILED)  # unless expected


def judge(workload: Workload, outcome: Outcome, trace: Snapshot, seconds: float) -> Check:
    """Compare what was expected, what was traced, and what each oracle saw.

    `trace` must come from a tracer attached before the workload began, its losses being those of
    this workload's time alone: see session.py.
    """
    compared = comparison(outcome, trace)
    rows, evidence = compared.rows, outcome.evidence
    either_outcome = workload.group == claim_c6.CLAIM
    if either_outcome:
        rows = claim_c6.with_either_outcome(rows)
        evidence = claim_c6.without_contradiction(evidence, rows)
    reason = workload.unseen(trace)
    blind = False
    differing = [] if reason else [row for row in rows if not row.ok]
    wrong = [
        f"{one.oracle}, {one.what}: expected {one.expected}, found {one.observed}"
        for one in evidence
        if one.ok is False
    ]
    wrong += _wrong_data(outcome)
    if not reason:
        wrong += [_detail(one) for one in compared.details if not one.ok]
        wrong += _impossible(outcome, trace)
        wrong += claim_c6.wrong_sums(compared.rows) if either_outcome else ()
    if reason and not wrong:
        verdict, blind, why = Verdict.UNSEEN, True, f"by the {trace.plan} plan: {reason}"
    elif differing and not wrong and _lost(differing, trace):
        verdict, why = Verdict.UNSEEN, f"the trace lost {trace.completeness.lost:,} faults"
    elif differing or wrong:
        verdict, why = Verdict.FAILS, "; ".join([*map(_difference, differing), *wrong])
    elif unseen := _invisible(rows):
        verdict, blind = Verdict.UNSEEN, True
        why = f"neither the {trace.plan} plan nor pagemap can see: {unseen}"
    else:
        verdict, why = Verdict.HOLDS, ""
    return replace(
        unfinished(workload, why, trace, seconds, verdict),
        did=f"{workload.summary} ({outcome.pages:,} pages)",
        expected=expected_words(rows),
        observed=observed_words(rows, trace),
        pages=outcome.pages,
        counts=counts(rows, trace),
        blind=blind,
        evidence=evidence,
        findings=(*_findings(workload, rows, trace), *_stated(outcome)),
    )


def unfinished(
    workload: Workload, why: str, trace: Snapshot, seconds: float, verdict: Verdict
) -> Check:
    """The Check of a workload that did not run to its end; `judge` adds to it what one showed."""
    return Check(
        group=workload.group,
        name=workload.name,
        claim=workload.claim,
        did=workload.summary,
        verdict=verdict,
        why=why,
        kernel=trace.kernel,
        plan=trace.plan,
        seconds=round(seconds, 3),
    )


def _lost(differing: Iterable[Row], trace: Snapshot) -> bool:
    """Whether the differences are no more than the faults that the trace knows it missed."""
    short = [_missing(row) for row in differing]
    return all(short) and sum(short) <= trace.completeness.lost


def _invisible(rows: Iterable[Row]) -> str:
    """The kinds that were expected, if neither the trace nor pagemap can see any of them."""
    telling = [row for row in rows if row.expected]
    if any(row.observed for row in telling):
        return ""
    return ", ".join(dict.fromkeys(row.kind.label for row in telling))


def _missing(row: Row) -> int:
    """Faults that were expected and not traced, if nothing else disagrees."""
    if row.traced is None or row.expected is None or row.pagemap not in (None, row.expected):
        return 0
    return max(0, row.expected - row.traced)


def _difference(row: Row) -> str:
    numbers = {"expected": row.expected, "traced": row.traced, "by pagemap": row.pagemap}
    shown = (f"{n:,} {what}" for what, n in numbers.items() if n is not None)
    return f"{row.role} {row.kind.label}: {', '.join(shown)}"


def _detail(one: Detail) -> str:
    what = f"{one.role} {one.kind.label} ({one.source.name.lower()}, by {one.origin.name.lower()})"
    if one.expected not in (None, one.traced):
        return f"{what}: {one.expected:,} expected, {one.traced or 0:,} traced"
    return f"{what}: {one.expected_bytes or 0:,} bytes expected, {one.traced_bytes or 0:,} traced"


def _wrong_data(outcome: Outcome) -> Iterator[str]:
    reported = {one.what.partition(":")[0] for one in outcome.evidence if one.oracle == "data"}
    for process in outcome.processes:
        if not process.data_right and process.role not in reported:
            yield f"{process.role} read back something else"


def _findings(workload: Workload, rows: Iterable[Row], trace: Snapshot) -> Iterator[str]:
    """What this kernel did where kernels differ, or where the workload expects no certain kind."""
    if workload.group == claim_c6.CLAIM:
        yield claim_c6.finding(rows)
        return
    differs = workload.varies and not workload.unseen(trace)
    if differs or any(row.expected is None and row.traced for row in rows):
        yield f"{workload.name}: {observed_words(rows, trace)}"


def _stated(outcome: Outcome) -> Iterator[str]:
    """What the workload found this kernel to do where kernels differ."""
    return (f"{outcome.name}: {finding}" for finding in outcome.findings)


def _impossible(outcome: Outcome, trace: Snapshot) -> Iterator[str]:
    """Traced rows that are wrong for every workload: failed faults, parts of pages."""
    for one in outcome.processes:
        process = trace.process(one.pid)
        expected = {row.kind for row in one.expected.rows}
        for row in process.rows if process else ():
            words = f"{one.role} {row.kind.label}"
            # A copy is a whole page, however few bytes of it are written.
            pages = row.faults if row.kind in (*COPIES, FaultKind.ZERO_FILLED) else 0
            if row.kind in _NEVER and row.kind not in expected:
                yield f"{words}: {row.faults:,} traced"
            elif row.source not in _LARGE and row.bytes != pages * trace.page_bytes:
                yield f"{words}: {row.bytes:,} bytes traced for {row.faults:,} faults"
