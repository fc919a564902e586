"""The host of the test VM compiles the BPF programs of an emulated guest: to the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command import PATIENCE
from workload_checks import plans

from cowtrace import cache, tracer
from cowtrace.errors import CowtraceError
from cowtrace.tracer import compiler, host_compiler, loader
from cowtrace.tracer.compiler import CompileError, compile_source

pytestmark = [
    pytest.mark.vm,
    pytest.mark.x86_64,  # another architecture's guest compiles by itself
]

LEFT = """
import os
from cowtrace.tracer import host_compiler
port = os.open(host_compiler._device(), os.O_RDWR)
os.write(port, {!r})
os.kill(os.getpid(), 9)
"""
REQUEST = b'{"number": "0123456789abcdef", "digest": "", "flags": ["-DX=5"]}\n'


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host may have other machines, too."""
    monkeypatch.setattr(host_compiler, "_PATIENCE_SECONDS", PATIENCE)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """Text and flags of a plan that runs here."""
    sources: list[tuple[str, list[str]]] = []

    def note(text: str, flags: Sequence[str]) -> None:
        sources.append((text, [*flags]))
        raise CompileError("only noted")

    with monkeypatch.context() as patched:
        patched.setattr(loader, "compile_source", note)
        patched.setattr(cache, "read", lambda name: None)
        with pytest.raises(CowtraceError, match="only noted"):
            tracer.attach(plans()[0], details=frozenset({"mapping"}))
    (found,) = sources
    return found


def slots(source: tuple[str, list[str]], number: int) -> set[int]:
    """Sizes of the maps that the host makes for a source with this many slots."""
    text, flags = source
    changed = [flag for flag in flags if "SLOTS" not in flag] + [f"-DSLOTS={number}"]
    answer = host_compiler.ask(compiler.digest(text), changed)
    return {spec[4] for spec in json.loads(answer)["maps"]} if answer else set()


@pytest.mark.spread("5.10", "7.2")
def test_it_compiles_to_what_this_machine_compiles_to(
    source: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text, flags = source
    by_host = host_compiler.ask(compiler.digest(text), flags)
    monkeypatch.setattr(host_compiler, "_PORTS", tmp_path / "none")
    assert by_host == compile_source(text, flags).to_bytes()


@pytest.mark.spread("6.1")
def test_processes_that_ask_at_the_same_time_get_their_own_answers(
    source: tuple[str, list[str]],
) -> None:
    numbers = [101, 103, 107, 109]
    with ThreadPoolExecutor(len(numbers)) as pool:
        answers = list(pool.map(lambda number: slots(source, number), numbers))
    assert [answer & {*numbers} for answer in answers] == [{number} for number in numbers]


@pytest.mark.spread("6.1")
@pytest.mark.parametrize("left", [REQUEST[:50], REQUEST], ids=["half", "whole"])
def test_what_a_killed_process_left_disturbs_nobody(
    source: tuple[str, list[str]], left: bytes
) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = LEFT.format(left)
    subprocess.run([sys.executable, "-c", code], env=environ, timeout=PATIENCE, check=False)
    assert 113 in slots(source, 113)


@pytest.mark.spread("6.1")
def test_of_a_source_that_the_host_does_not_have_this_machine_says_what_is_wrong() -> None:
    with pytest.raises(CompileError, match="unknown type name 'wrong'"):
        compile_source("wrong x;", [])
