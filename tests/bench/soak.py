"""Processes without end, one tracer: its memory stays flat, its sums exact.

    python -m bench.soak MINUTES

Exit code 1 when a fault was lost, a sum was wrong, or memory grew.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from statistics import median

from bench import variants
from bench.programs import compiled
from bench.scale import crowd_of, resident_mb
from cowtrace import tracer

PROCESSES = 2000  # a round
SAY_SECONDS = 20
MOST_GROWTH = 1.05  # from the first quarter of the time to the last


@dataclass(frozen=True, slots=True)
class Round:
    """So many processes, which have all ended."""

    expected: int  # pages that they copied
    page_faults: int  # that their writes took, by getrusage
    counted: int
    lost: int
    resident_mb: float


def main(minutes: float) -> int:
    rounds: list[Round] = []
    began = told = time.monotonic()
    with compiled("crowd") as program, tracer.attach(region=variants.REGION) as traced:
        while len(rounds) < 4 or time.monotonic() < began + 60 * minutes:
            rounds.append(one_round(program, traced))
            if time.monotonic() > told + SAY_SECONDS:
                told = time.monotonic()
                print(f"soak: {_words(rounds)}", file=sys.stderr, flush=True)
    quarter = len(rounds) // 4
    # The first rounds fill what is filled once.
    first, last = (
        median(each.resident_mb for each in part)
        for part in (rounds[1 : quarter + 1], rounds[-quarter:])
    )
    print(_words(rounds))
    print(f"resident: {first:.1f} MB in the first quarter, {last:.1f} MB in the last")
    exact = all(
        each.counted == each.expected == each.page_faults and not each.lost for each in rounds
    )
    return 0 if exact and last <= first * MOST_GROWTH else 1


def one_round(program: str, traced: tracer.Tracer) -> Round:
    """Forks PROCESSES of them. What came before is forgotten."""
    lost = traced.snapshot().completeness.lost
    with crowd_of(program, "short", PROCESSES, traced) as crowd:
        pass
    traced.snapshot()  # an ended process is folded at the second reading after its end
    now = traced.snapshot()
    traced.forget_ended()
    counted = crowd.counted(now).total()
    faults = sum(crowd.rusage)
    return Round(crowd.pages.total(), faults, counted, now.completeness.lost - lost, resident_mb())


def _words(rounds: list[Round]) -> str:
    expected, counted, lost = (
        sum(getattr(each, name) for each in rounds) for name in ("expected", "counted", "lost")
    )
    return (
        f"{len(rounds) * PROCESSES:,} processes, {counted:,} of {expected:,} copies counted, "
        f"{lost:,} lost, {rounds[-1].resident_mb:.1f} MB"
    )


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
