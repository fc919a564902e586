"""Run one workload in this process and print its outcome as JSON."""

from __future__ import annotations

import argparse
import sys

from cowtrace.errors import CowtraceError
from cowtrace.workloads.workload import check_pages, find


def main() -> int:
    """0, or an exit code after two lines on stderr."""
    parser = argparse.ArgumentParser(prog="python -m cowtrace.workloads", description=__doc__)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--pages", type=int, default=509, metavar="N")
    arguments = parser.parse_args()
    try:
        workload = find(arguments.name)
        check_pages(workload, arguments.pages)
        print(workload.run(arguments.pages).to_json())
    except CowtraceError as error:
        print(f"cowtrace: {error}\nHint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
