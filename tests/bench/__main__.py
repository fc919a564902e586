"""The benchmark: `make bench`, or some of it: `make bench SECTIONS="native startup"`.

    python -m bench [--json FILE] [SECTION...]

Each section's table is printed as Markdown when it is done, and everything measured so far is
written to FILE. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from pathlib import Path

from bench.variants import Missing
from cowtrace import __version__
from cowtrace.errors import CowtraceError

SECTIONS = (
    *("instructions", "native", "startup", "application"),
    *("scale", "saturation", "recording", "shared", "fork", "try", "forecast"),
)


def main() -> int:
    """Returns the exit code: 1 when a section could not be done."""
    parser = argparse.ArgumentParser(prog="make bench", description="What tracing costs.")
    parser.add_argument("--json", type=Path, metavar="FILE", default=Path("build/bench.json"))
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    wanted = parser.parse_args()
    if unknown := set(wanted.sections) - set(SECTIONS):
        print(f"cowtrace: no section of the benchmark is named {', '.join(sorted(unknown))}\n"
              f"Hint: they are {', '.join(SECTIONS)}", file=sys.stderr)  # fmt: skip
        return 2
    found: dict[str, object] = {
        "cowtrace": __version__,
        "kernel": platform.release(),
        "processor": _processor(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    wanted.json.parent.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in wanted.sections or SECTIONS:
        _say(f"{name}")
        module = importlib.import_module(f"bench.{name}")
        try:
            report = module.run(lambda words: _say(f"  {words}"))
        except (Missing, CowtraceError) as reason:
            failed = True
            print(f"## {name}\n\nNot measured: {reason}\n", flush=True)
            found[name] = {"missing": str(reason)}
            continue
        print("\n".join([f"## {report.title}", "", *report.lines, ""]), flush=True)
        found[name] = report.data
        wanted.json.write_text(json.dumps(found, indent=1))
    _say(f"all figures: {wanted.json}")
    return int(failed)


def _say(words: str) -> None:
    print(f"bench: {words}", file=sys.stderr, flush=True)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
