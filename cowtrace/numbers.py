"""Format numbers in at most 7 characters, so that column widths never depend on them."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH = 7
MISSING = "-"  # the plan cannot see it; never 0

_SI = ("M", "G", "T", "P", "E")
_BINARY = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def count(number: int | None) -> str:
    """`999,999`, and from a million on `1.23M`; `-` for None."""
    if number is None:
        return MISSING
    if number < 1_000_000:
        return f"{number:,}"
    return _scaled(number / 1000, 1000, _SI)


def size(number: float | None, gap: str = "") -> str:
    """Bytes: `512B`, `4.00KiB`, `1023KiB`; `-` for None. `gap` stands before the unit.

    A difference below 0 has a sign, and takes one character more.
    """
    if number is None:
        return MISSING
    if number < 0:
        return f"-{size(-number, gap)}"
    if number < 1024:
        return f"{round(number)}{gap}B" if round(number) else "0"
    return _scaled(number, 1024, _BINARY, gap)


def duration(nanoseconds: float) -> str:
    """A time in prose: `850 ns`, `2.71 µs`, `13.4 ms`, `1.20 s`."""
    value = nanoseconds
    for unit in ("ns", "µs", "ms"):
        if value < 999.5:
            return f"{_three(value)} {unit}"
        value /= 1000
    return f"{_three(value)} s"


def brief(nanoseconds: float | None) -> str:
    """A time in a table, 6 characters at most: `850ns`, `2.71µs`, `13.4ms`; `-` for None."""
    return MISSING if nanoseconds is None else duration(nanoseconds).replace(" ", "")


def age(seconds: float) -> str:
    """A span in a table, 6 characters at most: `9.5s`, `12m03s`, `3h07m`, `12d`."""
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 100:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 100 else f"{hours // 24}d"


def percent(share: float | None) -> str:
    """A share of 1, 5 characters at most: `0.3%`, `24.1%`, `100%`; `-` for None."""
    if share is None:
        return MISSING
    return f"{100 * share:.0f}%" if share >= 0.9995 else f"{100 * share:.1f}%"


def _scaled(number: float, base: int, units: Sequence[str], gap: str = "") -> str:
    for unit in units:
        number /= base
        digits = _three(number)
        # 1,000 to 1,023 KiB keep their unit; 999.6M is not "1000M" but "1.00G"
        if float(digits) < base:
            return f"{digits}{gap}{unit}"
    return f"{number * base ** len(units):.0e}{gap}"


def _three(number: float) -> str:
    """Three significant digits, without an exponent."""
    if number < 9.995:
        return f"{number:.2f}"
    return f"{number:.1f}" if number < 99.95 else f"{number:.0f}"
