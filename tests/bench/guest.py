"""Inside the VM: the load under each variant, a line of JSON each.

python -m bench.guest PAGES REPETITIONS [NAME...]
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from bench import variants


def main(pages: int, repetitions: int, names: list[str]) -> None:
    for variant in variants.everything():
        if names and not any(name in variant.name for name in names):
            continue
        row: dict[str, object] = {"name": variant.name, "what": variant.what}
        try:
            row |= asdict(variant.measure(pages, repetitions))
        except variants.Missing as reason:
            row["missing"] = str(reason)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
