"""Bytecode programs are loaded and attached as BCC would have, or nothing is left open."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_bytecode import EXIT, RING, SUMS, load_map, load_number

from cowtrace import cache
from cowtrace.kernel import programs
from cowtrace.kernel.hooks import Hook
from cowtrace.kernel.plan import ProbePlan
from cowtrace.kernel.programs import MapSpec
from cowtrace.tracer import loader
from cowtrace.tracer.bytecode import Bytecode
from cowtrace.tracer.loader import Loaded

HOOK = Hook("kprobe", "finish_fault", "finish_fault_enter")
PLAN = ProbePlan("kprobe", (HOOK,), {}, frozenset(), ())
COMPILED = Bytecode(
    (SUMS, RING),
    (
        ("raw_tracepoint__sched_process_exit", load_map(1) + EXIT),
        ("kfunc__do_wp_page", EXIT),
        ("kretfunc__vmlinux__do_wp_page", EXIT),
        ("finish_fault_enter", load_map(0) + EXIT),
    ),
)


class FakeKernel:
    """Gives out real descriptors, and notes what it was asked for."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.code: dict[str, bytes] = {}
        self.loaded: list[tuple[object, ...]] = []
        self.attached: list[tuple[object, ...]] = []
        self.refuse = ""

    def open(self) -> int:
        self.opened.append(os.open(os.devnull, os.O_RDONLY))
        return self.opened[-1]

    def create_map(self, spec: MapSpec) -> int:
        return self.open()

    def load_program(
        self, kind: int, name: str, code: bytes, attach_type: int = 0, btf_id: int = 0
    ) -> int:
        if name == self.refuse:
            raise OSError(22, "refused")
        self.loaded.append((kind, name, attach_type, btf_id))
        self.code[name] = code
        return self.open()

    def open_raw_tracepoint(self, name: str | None, program: int) -> int:
        self.attached.append((name, program))
        return self.open()

    def still_open(self) -> list[int]:
        def is_open(fd: int) -> bool:
            try:
                return bool(os.fstat(fd))
            except OSError:
                return False

        return [fd for fd in self.opened if is_open(fd)]


class FakeKprobes:
    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel

    def attach(self, hook: Hook, program: int) -> None:
        if hook.target == self.kernel.refuse:
            raise OSError(2, "no such function")
        self.kernel.attached.append((hook.target, program))

    def close(self) -> None:
        assert self.kernel.still_open(), "detached before it is unloaded"


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel()
    for name in ("create_map", "load_program", "open_raw_tracepoint"):
        call: Callable[..., int] = getattr(fake, name)
        monkeypatch.setattr(programs, name, call)
    monkeypatch.setattr(loader, "Kprobes", lambda: FakeKprobes(fake))
    btf = SimpleNamespace(function_id={"do_wp_page": 509}.get)
    monkeypatch.setattr(loader, "vmlinux", lambda: btf)
    return fake


def test_each_program_is_of_its_kind_and_refers_to_the_new_maps(kernel: FakeKernel) -> None:
    direct = Loaded(PLAN, COMPILED)
    assert kernel.loaded == [
        (programs.RAW_TRACEPOINT, "sched_process_exit", 0, 0),
        (programs.TRACING, "do_wp_page", programs.FENTRY, 509),
        (programs.TRACING, "do_wp_page", programs.FEXIT, 509),
        (programs.KPROBE, "finish_fault_enter", 0, 0),
    ]
    assert kernel.code["sched_process_exit"] == load_map(direct.maps["events"]) + EXIT
    assert kernel.code["finish_fault_enter"] == load_map(direct.maps["sums"]) + EXIT
    assert [(name, direct.programs[of]) for name, of in (
        ("sched_process_exit", "raw_tracepoint__sched_process_exit"),
        (None, "kfunc__do_wp_page"),
        (None, "kretfunc__vmlinux__do_wp_page"),
        ("finish_fault", "finish_fault_enter"),
    )] == kernel.attached  # fmt: skip
    direct.close()
    assert kernel.still_open() == []


def test_marked_numbers_are_those_of_this_start(kernel: FakeKernel) -> None:
    code = load_number(0xC057_0000_0000_0000) + load_number(0xC058_0000_0000_0000) + EXIT
    rounds = replace(SUMS, name=loader.SINGLE_MAPS[0])
    compiled = Bytecode((SUMS, rounds), (("finish_fault_enter", code),))
    direct = Loaded(replace(PLAN, addresses=(0xFFFF_8880_0000_0509,)), compiled)
    element = load_number(direct.maps["rounds"], source=2)  # BPF_PSEUDO_MAP_VALUE
    expected = load_number(0xFFFF_8880_0000_0509) + element + EXIT
    assert kernel.code["finish_fault_enter"] == expected
    direct.close()


@pytest.mark.parametrize("refused", ["sched_process_exit", "finish_fault_enter", "finish_fault"])
def test_nothing_is_left_of_what_is_refused(kernel: FakeKernel, refused: str) -> None:
    kernel.refuse = refused
    with pytest.raises(OSError, match=r"refused|no such"):
        Loaded(PLAN, COMPILED)
    assert kernel.still_open() == []


def test_descriptors_lie_above_those_that_libraries_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    low = os.open(tmp_path, os.O_RDONLY)
    high = programs.moved_high(low)
    assert high >= 512
    assert not os.get_inheritable(high)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(low)
    os.close(high)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_few_descriptors_may_be_open(tmp_path: Path) -> None:
    script = (
        "import os, resource; from cowtrace.kernel.programs import moved_high\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "fd = os.open('/', os.O_RDONLY); assert moved_high(fd) == fd; os.fstat(fd)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_program_that_was_not_kept_is_an_error(kernel: FakeKernel) -> None:
    with pytest.raises(LookupError):
        Loaded(PLAN, Bytecode((SUMS,), ()))
    assert kernel.still_open() == []


def test_what_this_kernel_does_not_take_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.write("key", COMPILED.to_bytes())

    def refuse(plan: ProbePlan, compiled: Bytecode) -> None:
        assert compiled == COMPILED
        raise OSError("refused")

    monkeypatch.setattr(loader, "Loaded", refuse)
    assert loader._from_cache(PLAN, "key") is None
    assert cache.read("key") is None


def test_what_is_compiled_is_kept_for_the_same_source_hooks_options_and_bcc_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []

    def cached(plan: ProbePlan, key: str) -> object:
        keys.append(key)
        return object()

    monkeypatch.setattr(loader, "_from_cache", cached)
    monkeypatch.setattr(loader, "bpf_dir", lambda: tmp_path)
    (tmp_path / "cow.bpf.c").write_text(
        '#include "one.h"\n#ifdef OTHER\n#include "other.h"\n#endif\n'
    )
    source, other = tmp_path / "one.h", tmp_path / "other.h"
    source.write_text("one")
    other.write_text("other")
    loader.load(PLAN)
    source.write_text("/* a comment, \nof two lines */one")
    other.write_text("of another plan")
    loader.load(PLAN)
    loader.load(ProbePlan("kprobe", PLAN.hooks, {"EVENTS": 1, "WANTED": 1}, frozenset(), ()))
    loader.load(ProbePlan("kprobe", PLAN.hooks, {"WANTED": 1, "EVENTS": 1}, frozenset(), ()))
    loader.load(ProbePlan("kprobe", (), {}, frozenset(), ()))
    source.write_text("other")
    loader.load(PLAN)
    monkeypatch.setattr(loader, "_bcc_version", lambda: "another")
    loader.load(PLAN)
    assert keys[0] == keys[1]
    assert keys[2] == keys[3]  # the same options in another order
    assert len(set(keys)) == 5
