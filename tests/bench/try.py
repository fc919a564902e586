"""What `cowtrace try` says about applications for which it is known whether a remedy helps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from applications.tried import HELPS, REMEDIES, WRITES, measure, tried

from bench.report import Report, prose, table

_RUNS = ("--runs", "7", "--seed", "23")


def run(say: Callable[[str], None]) -> Report:
    rows = []
    data: list[dict[str, Any]] = []
    right = 0
    for known in HELPS:
        say(f"{known.remedy}: {known.what}")
        found = tried(known.script, [known.remedy], *_RUNS)
        data.append(found)
        row = measure(found["comparisons"][0], known.quantity)
        is_right = row["is_shown"] and row["high"] <= known.share
        right += is_right
        time = measure(found["comparisons"][0], "wall time")
        rows.append((known.remedy, known.what, known.quantity, _verdict(row), _verdict(time)))
    say("a program that writes pages itself, under each remedy")
    found = tried(WRITES, REMEDIES, *_RUNS)
    data.append(found)
    for each in found["comparisons"]:
        row = measure(each, "copied")
        right += not row["is_shown"]
        rows.append((each["name"], "writes pages", "copied", _verdict(row),
                     _verdict(measure(each, "wall time"))))  # fmt: skip
    what = f"{right} of {len(rows)} verdicts are right: each remedy helps the application of its "
    what += "own, and none helps a program that writes pages itself. 7 runs with and without it. "
    what += "The bounds of the intervals are in brackets; none: no difference shown."
    head = ("Remedy", "Application", "Of", "Difference", "Time")
    return Report("Whether a remedy works", [*table(head, rows), *prose(what)], data)


def _verdict(row: dict[str, Any]) -> str:
    if row["change"] is None:
        return "-"
    if not row["is_shown"]:
        return "none"
    low, high = (f"{100 * row[end]:+.0f}" for end in ("low", "high"))
    return f"{100 * row['change']:+.0f}% ({low} to {high})"
