"""Check the values of a JSON file that anybody may have written.

Raise TypeError or ValueError for a value that cowtrace would not have written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

_MOST = 1 << 62  # of any number

_Item = TypeVar("_Item")


def mapping(value: object) -> dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise TypeError("a value is not an object")
    return value


def items(value: object, item: Callable[[object], _Item]) -> tuple[_Item, ...]:
    """A list, each item checked."""
    if not isinstance(value, list):
        raise TypeError("a value is not a list")
    return tuple(map(item, value))


def text(value: object) -> str:
    """Text; it may be hostile to what shows it."""
    if not isinstance(value, str):
        raise TypeError("a value is not text")
    return value


def flag(value: object) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise TypeError("a value is neither true nor false")
    return value


def number(value: object) -> int:
    """A count."""
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError("a value is not a count")
    return value


def signed(value: object) -> int:
    """A number that may be below 0."""
    if type(value) is not int or not -_MOST <= value <= _MOST:
        raise ValueError("a value is not a number")
    return value


def or_none(value: object, of: Callable[[object], _Item]) -> _Item | None:
    """null, or what `of` checks."""
    return None if value is None else of(value)


def no_number(name: str) -> NoReturn:
    """For NaN and Infinity, which JSON does not have: see `parse_constant` of json.loads()."""
    raise ValueError(f"{name} is not a number")
