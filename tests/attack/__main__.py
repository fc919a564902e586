"""Attack cowtrace for some minutes, and report: python -m attack MINUTES [NAME...]

Each attack runs alone first; in the rest of the time all run at once, in groups. As root. Exit
code 1 if a command failed.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from pathlib import Path

from attack.attacker import NoCompiler
from attack.catalogue import ATTACKS, Attack
from attack.session import Result, Session

ALONE_SHARE = 0.6  # of the time
GROUP = 8


def main(minutes: float, names: list[str]) -> int:
    # As an exception: the session then ends its commands, the victim and the attacks.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    chosen = [a for a in ATTACKS if not names or any(name in a.name for name in names)]
    with tempfile.TemporaryDirectory(prefix="cowtrace-attack.") as folder:
        try:
            results = attacked(Path(folder), chosen, 60 * minutes)
        except NoCompiler as error:
            print(f"attack: {error}", file=sys.stderr)
            return 1
    failed = [result for result in results if result.problems]
    print(f"attack: {len(results)} rounds, {len(chosen)} kinds, {len(failed)} rounds FAILED")
    return 1 if failed else 0


def attacked(folder: Path, chosen: list[Attack], seconds: float) -> list[Result]:
    """One by one, then together."""
    results = []
    with Session(folder) as session:
        begun = time.monotonic()
        each = max(1.0, seconds * ALONE_SHARE / len(chosen) - 3)
        for attack in chosen:
            results.append(session.run([attack], each))
            print(line(results[-1]), flush=True)
        turn = 0
        while len(chosen) > 1 and (turn == 0 or time.monotonic() < begun + seconds):
            group = chosen[turn % GROUP :: (len(chosen) + GROUP - 1) // GROUP]
            results.append(session.run(group, 10.0))
            print(line(results[-1]), flush=True)
            turn += 1
        results.append(session.end())
        print(line(results[-1]), flush=True)
    return results


def line(result: Result) -> str:
    """A line for the round, and one for each problem."""
    largest = max(result.peak_mb.items(), key=lambda item: item[1], default=("", 0.0))
    named = "" if result.named is None else f", {result.named:.0%} named"
    seen = (
        f"{result.copies:,} copies{named}, {largest[1]:.0f} MB {largest[0]}, "
        f"scrape {result.slowest_scrape:.2f} s"
    )
    verdict = "FAILED" if result.problems else "ok"
    title = result.attacks if len(result.attacks) < 40 else result.attacks[:37] + "..."
    lines = [f"{title:40} {result.seconds:5.1f} s  {verdict:6} {seen}"]
    lines += [f"    {problem}" for problem in dict.fromkeys(result.problems)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
