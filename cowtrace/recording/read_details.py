"""Rebuild forks, mappings, stacks and detail rows from their tables."""

from __future__ import annotations

import json

from cowtrace.model import DetailRow, Ending, ForkGeneration, Mapping, Stack, StackFrame
from cowtrace.recording.checks import KINDS, ORIGINS, SOURCES, TYPES, Rows, number, or_none, word


def generations(rows: Rows) -> tuple[ForkGeneration, ...]:
    """By number."""
    return tuple(
        ForkGeneration(
            number(fork),
            number(parent),
            number(child),
            number(at_ns),
            or_none(shareable),
            or_none(ended_ns),
            Ending(ended_by) if ended_by else None,
            number(by_parent),
            number(by_child),
        )
        for fork, parent, child, at_ns, shareable, *rest in rows(
            "SELECT * FROM generation ORDER BY number"
        )
        for ended_ns, ended_by, by_parent, by_child in (rest,)
    )


def mappings(rows: Rows) -> dict[int, Mapping]:
    """By id."""
    return {
        key: Mapping(word(start), word(end), TYPES[kind], word(flags), str(name), word(inode))
        for key, start, end, kind, flags, name, inode in rows("SELECT * FROM mapping")
    }


def stacks(rows: Rows) -> dict[int, Stack]:
    """By id."""
    frames = {
        key: StackFrame(str(symbol), str(module), word(address))
        for key, symbol, module, address in rows("SELECT * FROM frame")
    }
    return {
        key: tuple(frames[frame] for frame in json.loads(ids))
        for key, ids in rows("SELECT * FROM stack")
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
            number(pid),
            KINDS[kind],
            SOURCES[source],
            ORIGINS[origin],
            or_none(generation),
            None if mapping is None else mappings[mapping],
            None if user is None else stacks[user],
            None if kernel is None else stacks[kernel],
            or_none(latency, most=64),
            number(faults),
            number(copied),
            or_none(ns),
        )
        for pid, kind, source, origin, generation, mapping, user, kernel, *sums in found
        for latency, faults, copied, ns in (sums,)
    )
