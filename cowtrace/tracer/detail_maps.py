"""The maps of bpf/detail.h, read whole: one round's detail sums, and what their keys refer to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from cowtrace.tracer import abi, maps
from cowtrace.tracer.raw_counts import RawDetails, RawGeneration, RawMapping

MapFd = Callable[[str], int]


def read(map_fd: MapFd, half: int) -> RawDetails:
    """What the ended round of that parity counted; it is removed from the map."""
    fd = map_fd("details")
    found = maps.read_hash(fd, abi.DETAIL_KEY, abi.DETAIL_SUM, per_cpu=False)
    old = [(key, value) for key, value in found if key[8] == half]
    maps.delete(fd, [abi.DETAIL_KEY.pack(*key) for key, _ in old])
    return RawDetails(
        sums={(*key[:8], key[9]): (value[0], value[1], value[2]) for key, value in old},
        mappings=_mappings(map_fd),
        generations=_generations(map_fd),
    )


def read_stack(map_fd: MapFd, number: int) -> tuple[int, ...] | None:
    """The addresses of one stack, innermost first; None when it was not kept."""
    raw = maps.read_element(map_fd("stacks"), abi.STACK_ID.pack(number), abi.STACK)
    if raw is None:
        return None
    return tuple(raw[: raw.index(0)] if 0 in raw else raw)


def read_mapping(map_fd: MapFd, tgid: int, start: int) -> RawMapping | None:
    """One mapping; None when it was not noted."""
    raw = maps.read_element(map_fd("mappings"), abi.MAPPING_KEY.pack(start, tgid), abi.MAPPING)
    return None if raw is None else (raw[0], raw[1], raw[2], raw[3], raw[4], raw[5])


def forget_mappings(map_fd: MapFd, keys: Iterable[tuple[int, int]]) -> None:
    """Remove mappings, by (tgid, start)."""
    packed = [abi.MAPPING_KEY.pack(start, tgid) for tgid, start in keys]
    if packed:
        maps.delete(map_fd("mappings"), packed)


def forget_generations(map_fd: MapFd, ids: Iterable[int]) -> None:
    """Remove generations, by the kernel side's number."""
    maps.delete(map_fd("generations"), [abi.TGID.pack(number) for number in ids])


def _mappings(map_fd: MapFd) -> dict[tuple[int, int], RawMapping]:
    found: dict[tuple[int, int], RawMapping] = {}
    with suppress(KeyError):  # mappings were not asked for
        elements = maps.read_hash(map_fd("mappings"), abi.MAPPING_KEY, abi.MAPPING, per_cpu=False)
        for (start, tgid), (end, flags, inode, device, kind, name) in elements:
            found[tgid, start] = (end, flags, inode, device, kind, name)
    return found


def _generations(map_fd: MapFd) -> dict[int, RawGeneration]:
    elements = maps.read_hash(map_fd("generations"), abi.TGID, abi.GENERATION, per_cpu=False)
    found: dict[int, RawGeneration] = {}
    for (number,), (parent, child, at, ended, pages, previous, executed) in elements:
        found[number] = (parent, child, at, ended, pages, previous, executed)
    return found
