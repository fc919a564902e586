"""Make JSON objects of forecasts. schema.json describes the fields."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from cowtrace.analysis.fits import Outlook
from cowtrace.analysis.forks import ForkRow
from cowtrace.machine import detail_objects
from cowtrace.machine.objects import fields
from cowtrace.model import PlaceOf, unknown_place


def generations(
    rows: Iterable[ForkRow],
    outlooks: Mapping[int, Outlook],
    place_of: PlaceOf = unknown_place,
) -> dict[str, Any]:
    """Forks by number, each with its forecast."""
    found = detail_objects.generations(rows, place_of)
    for each in found["generations"]:
        each["forecast"] = of_fork(outlooks[each["number"]])
    return found


def of_fork(outlook: Outlook) -> dict[str, Any] | None:
    """The forecast of one fork; None: it is too early."""
    forecast, left, fits = outlook.forecast, outlook.left, outlook.fits
    if forecast is None:
        return None
    level = forecast.levels_off_in_seconds
    return {
        **fields(forecast, "low_bytes", "expected_bytes", "high_bytes", "to_come_bytes"),
        "ends_in_seconds": forecast.ends_in_seconds,
        "levels_off_in_seconds": level if level is None or math.isfinite(level) else None,
        "earlier_forks": forecast.earlier,
        "left": {
            "available_bytes": left.available_bytes,
            "limit_bytes": left.most_bytes,
            "machine": fields(left.machine, "available_bytes", "swap_bytes"),
            "cgroup": fields(
                left.cgroup, "place", "available_bytes", "unthrottled_bytes", "swap_bytes"
            ),
        },
        "fits": fits and fits.expected.value,
        "fits_high": fits and fits.high.value,
    }
