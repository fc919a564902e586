"""Hold elements of a BPF map as bytes, and unpack each one when it is looked at.

In a fork storm one round has tens of thousands of processes and forks: unpacked, they take three
times as much memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from cowtrace.tracer.abi import Layout

K = TypeVar("K")
V = TypeVar("V")


class Packed(Mapping[K, V]):
    """By key, the bytes of each value."""

    def __init__(self, layout: Layout[V], raw: Mapping[K, bytes]) -> None:
        self._layout = layout
        self._raw = raw

    def __getitem__(self, key: K) -> V:
        return self._layout.unpack(self._raw[key])

    def __iter__(self) -> Iterator[K]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __contains__(self, key: object) -> bool:
        return key in self._raw

    def only(self, keys: Iterable[K]) -> Packed[K, V]:
        """A part of it."""
        return Packed(self._layout, {key: self._raw[key] for key in keys})
