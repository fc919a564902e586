"""Make the JSON object of `cowtrace try`. Fields are added, never renamed; missing is null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cowtrace.analysis.trials import CONFIDENCE, UNITS, Comparison, Run
from cowtrace.machine.objects import fields


def trial(
    found: Sequence[Comparison],
    runs: Mapping[str, Sequence[Run]],
    tried: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    doubts: Sequence[str],
    *,
    seed: int,
    warm_ups: int,
    interrupted: bool,
) -> dict[str, Any]:
    """What `cowtrace try --json` writes. `tried`: by name, the command and the remedies."""
    return {
        "seed": seed,
        "warm_ups": warm_ups,
        "interrupted": interrupted,
        "confidence": CONFIDENCE,
        "doubts": list(doubts),
        "comparisons": [
            {
                **fields(each, "name", "verdict"),
                "against": each.base,
                "measures": [
                    {
                        "name": row.name,
                        "unit": row.unit.value,
                        **fields(row, "base", "value", "relative", "change", "low", "high"),
                        "is_shown": row.is_shown,
                    }
                    for row in each.differences
                ],
            }
            for each in found
        ],
        "variants": [
            {
                "name": name,
                "command": list(command),
                "remedies": list(remedies),
                "runs": [
                    {
                        "block": run.block,
                        "complete": run.complete,
                        "measures": [
                            {"name": what, "unit": unit.value, "value": run.values[what]}
                            for what, unit in UNITS.items()
                        ],
                    }
                    for run in runs[name]
                ],
            }
            for name, (command, remedies) in tried.items()
        ],
    }
