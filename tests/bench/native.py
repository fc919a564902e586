"""Nanoseconds a page on this machine, traced against untraced, turn by turn."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from bench import report, variants, writer

ROUNDS = 11
PAGES, REPETITIONS = 20_000, 5
# The two that the tracepoint plan needs in a fault: what is below it.
EMPTY = (
    "RAW_TRACEPOINT_PROBE(page_fault_user) { return 0; }"
    " RAW_TRACEPOINT_PROBE(mm_page_alloc) { return 0; }"
)


def candidates() -> list[variants.Variant]:
    """What a kernel without kprobes has, then what it may lack."""
    plans = [variants.cowtrace(plan) for plan in ("tracepoint", "kprobe", "fentry")]
    return [
        variants.empty("empty tracepoints", EMPTY),
        *plans,
        variants.cowtrace("tracepoint", page_faults=True),
        variants.bpftrace("tracepoint count", variants.TRACEPOINT_COUNT),
        variants.bpftrace("tracepoint pair", variants.TRACEPOINT_PAIR),
        variants.bpftrace("kprobe count", variants.KPROBE_COUNT),
    ]


def run(say: Callable[[str], None]) -> report.Report:
    """Each round runs the load untraced before every variant, so that both see one machine."""
    bare = variants.baseline()
    loads: dict[str, list[tuple[writer.Load, writer.Load]]] = {}
    missing: dict[str, str] = {}
    tried = candidates()
    for number in range(ROUNDS):
        say(f"round {number + 1} of {ROUNDS}")
        for variant in tried:
            if variant.name in missing:
                continue
            untraced = bare.measure(PAGES, REPETITIONS)
            try:
                traced = variant.measure(PAGES, REPETITIONS)
            except variants.Missing as reason:
                missing[variant.name] = str(reason)
                continue
            loads.setdefault(variant.name, []).append((untraced, traced))
    rows = []
    data: dict[str, object] = {}
    for name, pairs in loads.items():
        ratios = {
            kind: report.spread(
                median(getattr(traced, kind)) / median(getattr(untraced, kind))
                for untraced, traced in pairs
            )
            for kind in ("copied", "remarked")
        }
        rows.append((name, *(report.percent(ratios[kind]) for kind in ("copied", "remarked"))))
        data[name] = [
            {kind: (getattr(u, kind), getattr(t, kind)) for kind in ("copied", "remarked")}
            for u, t in pairs
        ]
    untraced_loads = [untraced for pairs in loads.values() for untraced, _ in pairs]
    floor = {
        kind: report.spread(median(getattr(load, kind)) for load in untraced_loads)
        for kind in ("copied", "remarked")
    }
    lines = report.table(("Attached", "Copy", "Re-mark"), rows)
    lines += ["", *(f"- {name}: {why}" for name, why in missing.items())] if missing else []
    lines += report.prose(
        f"Untraced a copy takes {floor['copied'].median:,.0f} ns ({floor['copied'].low:,.0f} to "
        f"{floor['copied'].high:,.0f}) and a re-mark {floor['remarked'].median:,.0f} ns "
        f"({floor['remarked'].low:,.0f} to {floor['remarked'].high:,.0f}) of processor time. "
        f"Traced against untraced, {ROUNDS} rounds of both in turn, {REPETITIONS} x {PAGES:,} "
        "pages each: median, and in brackets the quartiles. The load: `python -m bench.writer "
        f"{PAGES} {REPETITIONS} FILE`; attached were:"
    )
    lines += report.commands((v.name, v.what) for v in tried if v.name not in missing)
    return report.Report("Time per fault on this machine", lines, data)
