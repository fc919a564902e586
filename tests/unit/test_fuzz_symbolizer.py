"""Anything at all, as a mapped file or as an answer of the symbolizer: stacks have frames, or not.

A file may end the child that reads it; the tracer goes on, and names the next process.
"""

from __future__ import annotations

import ctypes
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzzing import CASES, fuzzed
from hypothesis import given, settings
from hypothesis import strategies as st

from cowtrace.errors import CowtraceError
from cowtrace.symbolizer import messages
from cowtrace.symbolizer.libdw import libdw
from cowtrace.tracer import process_files
from cowtrace.tracer.symbolizer import Symbolizer
from cowtrace.tracer.symbolizer_replies import UNKNOWN

GETPPID = ctypes.cast(ctypes.CDLL(None).getppid, ctypes.c_void_p).value or 0
PARTS = 64  # changes of a file: within its head, within its tables at its end, or anywhere
changes = st.lists(
    st.tuples(
        st.one_of(st.floats(0, 0.001), st.floats(0.9, 1, exclude_max=True), st.floats(0, 1)),
        st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 8, b"\0" * 8])),
    ),
    max_size=PARTS,
)


@pytest.fixture(scope="module")
def symbolizer() -> Iterator[Symbolizer]:
    try:
        libdw()
    except CowtraceError as error:
        pytest.skip(str(error))
    found = Symbolizer()
    yield found
    found.close()


@pytest.fixture(scope="module")
def library() -> bytes:
    """The C library's own file."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return Path(next(line.split()[-1] for line in lines if "libc.so" in line)).read_bytes()


def name(symbolizer: Symbolizer, start: int) -> str:
    symbolizer.new_round()
    symbolizer._strikes.clear()
    symbolizer._given_up.clear()
    (frame,) = symbolizer.user_stack([GETPPID], ((os.getpid(), start),), 0)
    return frame.symbol


@settings(fuzzed, max_examples=max(20, CASES // 10))  # each takes as long as ten others
@given(changes)
def test_a_program_of_other_bytes(
    symbolizer: Symbolizer, library: bytes, made: list[tuple[float, bytes]]
) -> None:
    changed = bytearray(library)
    for at, text in made:
        place = min(int(at * len(changed)), len(changed) - 8)
        changed[place : place + len(text)] = text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process_files, "mapped_file", lambda *_: memory_file(bytes(changed)))
        began = time.monotonic()
        name(symbolizer, time.monotonic_ns())
        assert time.monotonic() - began < 30
    assert name(symbolizer, 0) == "getppid"


def memory_file(content: bytes) -> int:
    fd = os.memfd_create("mapped")
    os.write(fd, content)
    return fd


jsons = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=True), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["frames", "open", "x"]), inner, max_size=3),
    ),
    max_leaves=12,
)
wanted = st.lists(
    st.one_of(st.sampled_from(["maps", "file", "perf-map", "debug-file", "kallsyms"]), jsons),
    max_size=6,
)
answers = st.one_of(jsons, st.fixed_dictionaries({"open": wanted}), st.binary(max_size=40))


def no_other() -> None:
    raise OSError("one is enough")


@fuzzed
@given(st.lists(answers, min_size=1, max_size=5))
def test_a_symbolizer_that_was_taken_over(replies: list[Any]) -> None:
    ours, theirs = messages.pair()
    taken_over = Symbolizer()
    taken_over._process._socket, taken_over._process._is_ready = ours, True
    for reply in replies:
        if isinstance(reply, bytes):
            theirs.send(reply or b"\0")
        elif isinstance(reply, dict):
            messages.send(theirs, reply)
        else:
            messages.send(theirs, {"frames": reply})
    theirs.shutdown(socket.SHUT_WR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taken_over._process, "start", no_other)
        stack = taken_over.user_stack([16, 23], ((os.getpid(), 1),), 0)
    assert all(isinstance(f.symbol, str) and isinstance(f.module, str) for f in stack)
    assert all(isinstance(f.address, int) for f in stack)
    if taken_over.causes:
        assert [(f.symbol, f.address) for f in stack] == [(UNKNOWN, 16), (UNKNOWN, 23)]
    taken_over.close()
    theirs.close()
