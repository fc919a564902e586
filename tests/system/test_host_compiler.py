"""The host of the test VM compiles the BPF programs of an emulated guest: to the same bytes."""

from __future__ import annotations

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
from cowtrace.tracer import host_compiler, loader
from cowtrace.tracer.compiler import CompileError, compile_source

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(
        os.uname().machine != "x86_64", reason="the host's programs are of another architecture"
    ),
]

SOURCE = "BPF_HASH(numbers, u64, u64, NUMBER);\nint kprobe__do_wp_page(void *c) { return 0; }\n"
HALF = """
import os
from pathlib import Path
from cowtrace.tracer import host_compiler
port = os.open(host_compiler._device(), os.O_RDWR)
os.write(port, b'{"number": "0123456789abcdef", "fla')
os.kill(os.getpid(), 9)
"""
UNREAD = """
import os
from cowtrace.tracer import host_compiler
port = os.open(host_compiler._device(), os.O_RDWR)
os.write(port, b'{"number": "0123456789abcdef", "flags": ["-DNUMBER=5"], "text": "int x;"}\\n')
os.kill(os.getpid(), 9)
"""


def compiled(number: int) -> bytes | None:
    return host_compiler.ask(SOURCE, [f"-DNUMBER={number}"])


@pytest.mark.spread("5.10", "7.2")
def test_it_compiles_to_what_this_machine_compiles_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources: list[tuple[str, Sequence[str]]] = []

    def note(text: str, flags: Sequence[str]) -> None:
        sources.append((text, flags))
        raise CompileError("only noted")

    with monkeypatch.context() as patched:
        patched.setattr(loader, "compile_source", note)
        patched.setattr(cache, "read", lambda name: None)
        with pytest.raises(CowtraceError, match="only noted"):
            tracer.attach(plans()[0], details=frozenset({"mapping"}))
    ((text, flags),) = sources
    by_host = host_compiler.ask(text, flags)
    monkeypatch.setattr(host_compiler, "_PORTS", tmp_path / "none")
    assert by_host == compile_source(text, flags).to_bytes()


@pytest.mark.spread("6.1")
def test_processes_that_ask_at_the_same_time_get_their_own_answers() -> None:
    numbers = [101, 103, 107, 109]
    with ThreadPoolExecutor(len(numbers)) as pool:
        answers = list(pool.map(compiled, numbers))
    for number, answer in zip(numbers, answers, strict=True):
        assert answer
        assert f"{number}, 0]" in answer.decode()


@pytest.mark.spread("6.1")
@pytest.mark.parametrize("left", [HALF, UNREAD])
def test_what_a_killed_process_left_disturbs_nobody(left: str) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", left], env=environ, timeout=PATIENCE, check=False)
    answer = compiled(113)
    assert answer
    assert "113, 0]" in answer.decode()


@pytest.mark.spread("6.1")
@pytest.mark.parametrize("flag", ["-include/etc/shadow", "-fplugin=/cowtrace/x.so", "-DX=$(x)"])
def test_a_flag_that_is_no_definition_is_refused(flag: str) -> None:
    assert host_compiler.ask(SOURCE, ["-DNUMBER=7", flag]) is None


@pytest.mark.spread("6.1")
def test_of_a_source_with_an_error_this_machine_says_what_is_wrong() -> None:
    with pytest.raises(CompileError, match="unknown type name 'wrong'"):
        compile_source("wrong x;", [])
