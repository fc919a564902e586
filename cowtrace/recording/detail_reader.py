"""Rebuild forks, mappings, stacks and detail rows from their tables."""

from __future__ import annotations

import json

from cowtrace.model import DetailRow, Ending, ForkGeneration, Mapping, Stack, StackFrame
from cowtrace.recording import checked
from cowtrace.recording.checked import Rows


def generations(rows: Rows) -> tuple[ForkGeneration, ...]:
    """By number."""
    return tuple(_generation(*row) for row in rows("SELECT * FROM generation ORDER BY number"))


def _generation(
    number: int,
    parent: int,
    child: int,
    at_ns: int,
    shareable: int | None,
    ended_ns: int | None,
    ended_by: str | None,
    by_parent: int,
    by_child: int,
) -> ForkGeneration:
    ending = Ending(ended_by) if ended_by else None
    return ForkGeneration(
        checked.number(number),
        checked.number(parent),
        checked.number(child),
        checked.number(at_ns),
        checked.or_none(shareable),
        checked.or_none(ended_ns),
        ending,
        checked.number(by_parent),
        checked.number(by_child),
    )


def mappings(rows: Rows) -> dict[int, Mapping]:
    """By id."""
    return {
        number: Mapping(
            checked.word(start),
            checked.word(end),
            checked.TYPES[kind],
            checked.word(flags),
            str(name),
            checked.word(ino),
        )
        for number, start, end, kind, flags, name, ino in rows("SELECT * FROM mapping")
    }


def stacks(rows: Rows) -> dict[int, Stack]:
    """By id."""
    frames = {
        number: StackFrame(str(symbol), str(module), checked.word(address))
        for number, symbol, module, address in rows("SELECT * FROM frame")
    }
    return {
        number: tuple(frames[frame] for frame in json.loads(ids))
        for number, ids in rows("SELECT * FROM stack")
    }


def details(
    rows: Rows, sampled: int, mappings: dict[int, Mapping], stacks: dict[int, Stack]
) -> tuple[DetailRow, ...]:
    """Those that were counted, or with `sampled` 1 those estimated from samples."""
    found = rows(
        "SELECT pid, kind, source, origin, generation, mapping, user_stack, kernel_stack, "
        f"latency, faults, bytes, ns FROM detail WHERE sampled = {sampled} ORDER BY id"
    )
    return tuple(
        DetailRow(
            checked.number(pid),
            checked.KINDS[kind],
            checked.SOURCES[source],
            checked.ORIGINS[origin],
            checked.or_none(generation),
            None if mapping is None else mappings[mapping],
            None if user is None else stacks[user],
            None if kernel is None else stacks[kernel],
            checked.or_none(latency, most=64),
            checked.number(faults),
            checked.number(copied),
            checked.or_none(ns),
        )
        for pid, kind, source, origin, generation, mapping, user, kernel, *sums in found
        for latency, faults, copied, ns in (sums,)
    )
