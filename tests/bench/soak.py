"""Processes without end, one tracer: its memory stays flat, its sums exact.

    python -m bench.soak MINUTES

Exit code 1 when a fault was lost, a sum was wrong, or memory grew.
"""

from __future__ import annotations

import sys
import time
from array import array
from dataclasses import dataclass, field
from statistics import median

from bench import variants
from bench.programs import compiled
from bench.scale import crowd_of, resident_mb
from cowtrace import tracer

PROCESSES = 2000  # a round
SAY_SECONDS = 20
MOST_GROWTH = 1.05  # from the first quarter of the time to the last


@dataclass(slots=True)
class Soak:
    """All processes so far, which have all ended. It must not grow itself: 8 bytes a round."""

    expected: int = 0  # pages that they copied
    counted: int = 0
    lost: int = 0
    wrong: int = 0  # rounds in which the tracer or getrusage counted another number
    resident_mb: array[float] = field(default_factory=lambda: array("d"))  # after each round

    def __str__(self) -> str:
        return (
            f"{len(self.resident_mb) * PROCESSES:,} processes, {self.counted:,} of "
            f"{self.expected:,} copies counted, {self.lost:,} lost, {self.resident_mb[-1]:.1f} MB"
        )

    def add_round(self, program: str, traced: tracer.Tracer) -> None:
        """Fork PROCESSES of them. What came before is forgotten."""
        lost = traced.snapshot().completeness.lost
        with crowd_of(program, "short", PROCESSES, traced) as crowd:
            pass
        traced.snapshot()  # an ended process is folded at the second reading after its end
        now = traced.snapshot()
        traced.forget_ended()
        expected, counted = crowd.pages.total(), crowd.counted(now).total()
        self.expected += expected
        self.counted += counted
        self.lost += now.completeness.lost - lost
        self.wrong += not expected == counted == sum(crowd.rusage)
        self.resident_mb.append(resident_mb())


def main(minutes: float) -> int:
    try:
        return _soak(minutes)
    except variants.Missing as reason:
        print(f"soak: {reason}", file=sys.stderr)
        return 1


def _soak(minutes: float) -> int:
    soak = Soak()
    began = reported = time.monotonic()
    with compiled("crowd") as program, tracer.attach(region=variants.REGION) as traced:
        try:
            while len(soak.resident_mb) < 4 or time.monotonic() < began + 60 * minutes:
                soak.add_round(program, traced)
                if time.monotonic() > reported + SAY_SECONDS:
                    reported = time.monotonic()
                    print(f"soak: {soak}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print(f"soak: interrupted after {soak}" if soak.resident_mb else "soak: interrupted")
            return 130
    print(soak)
    quarter = len(soak.resident_mb) // 4
    # The first rounds fill what is filled once.
    first = median(soak.resident_mb[1 : quarter + 1])
    last = median(soak.resident_mb[-quarter:])
    print(f"resident: {first:.1f} MB in the first quarter, {last:.1f} MB in the last")
    flat = last <= first * MOST_GROWTH
    return 0 if flat and not soak.wrong and not soak.lost else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
