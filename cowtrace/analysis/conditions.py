"""Parse and check the condition of `cowtrace watch --when`: `forecast > available`.

    condition = comparison ["and" comparison]...
    comparison = term ("<" | ">" | "<=" | ">=") term
    term = name | percentage ["%"] name | size

A name stands for bytes of one fork or of all, see NAMES; a size is a number with a unit: `512MiB`,
`2G`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cowtrace.errors import EXIT_USAGE, CowtraceError, did_you_mean
from cowtrace.text import printable

NAMES = {
    "forecast": "still to come, expected",
    "high": "still to come, in nine of ten cases at most",
    "forecasts": "forecast of all live forks together",
    "highs": "high of all live forks together",
    "worst": "still to come at most: what was shared and is not copied yet",
    "total": "expected in all",
    "copied": "so far",
    "shared": "at the fork",
    "available": "memory left: of the machine and of the cgroup, without swap",
    "limit": "the same with swap and above memory.high: with more, the kernel kills",
}
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_TERM = re.compile(r"(?:(\d{1,9}(?:\.\d{1,9})?) ?(%|[KMGT]?(?:i?B)?))? ?([a-z]*)", re.ASCII)
_HINT = f"as in 'forecast > available' or 'high > 80% available'; names: {', '.join(NAMES)}"

Values = Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class _Term:
    factor: float  # of the name; without a name: bytes
    name: str

    def value(self, values: Values) -> float | None:
        if not self.name:
            return self.factor
        known = values[self.name]
        return None if known is None else self.factor * known


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed one; `text` as it was given."""

    text: str
    comparisons: tuple[tuple[_Term, str, _Term], ...]

    def holds(self, values: Values) -> bool:
        """Whether it does for one fork. What is not known makes it false."""
        for left, sign, right in self.comparisons:
            one, other = left.value(values), right.value(values)
            if one is None or other is None or not _SIGNS[sign](one, other):
                return False
        return True


def parse(text: str) -> Condition:
    """Raises CowtraceError."""
    comparisons = []
    for part in re.split(r"\band\b", text):
        pieces = re.split(r"(<=|>=|<|>)", part)
        if len(pieces) != 3:
            raise _error(f"no comparison: {printable(part.strip()) or 'nothing'}", _HINT)
        comparisons.append((_term(pieces[0]), pieces[1], _term(pieces[2])))
    return Condition(text, tuple(comparisons))


def _term(text: str) -> _Term:
    text = " ".join(text.split())
    found = _TERM.fullmatch(text)
    number, unit, name = found.groups() if found else (None, None, "")
    if not found or not text or (name == "") == (unit in ("%", None)):
        known = did_you_mean(text, NAMES)
        raise _error(f"neither a name nor a size: {printable(text) or 'nothing'}", known + _HINT)
    if name and name not in NAMES:
        raise _error(f"there is no value {name}", did_you_mean(name, NAMES) + _HINT)
    if name and unit not in ("%", None):
        raise _error(f"a size before a name: {printable(text)}", _HINT)
    if name:
        return _Term(1.0 if number is None else float(number) / 100, name)
    return _Term(float(number or 0) * _UNITS[(unit or "").rstrip("iB")], "")


def _error(problem: str, hint: str) -> CowtraceError:
    return CowtraceError(f"--when: {problem}", hint=hint, exit_code=EXIT_USAGE)
