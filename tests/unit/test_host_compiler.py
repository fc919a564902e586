"""What the VM's guest asks its host to compile, and what the host answers."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowtrace.tracer import host_compiler
from cowtrace.vm import compiler, qemu
from cowtrace.vm.guest_arch import ARCHES, Arch

HERE = next(arch for arch in ARCHES.values() if arch.machine == os.uname().machine)
ELSEWHERE = next(arch for arch in ARCHES.values() if arch.machine != os.uname().machine)


def machine(arch: Arch = HERE, *, kvm: bool = False) -> qemu.Machine:
    none = Path("/none")
    return qemu.Machine(qemu.Accel(kvm, "test"), none, none, none, none, none, arch=arch)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], str]]:
    """What the host compiled, as root: flags and text."""
    calls: list[tuple[list[str], str]] = []

    def compile_(image: Path, folder: str, flags: list[str], text: str) -> bytes:
        calls.append((flags, text))
        return b"" if text == "wrong" else f'["{len(text)}"]'.encode()

    monkeypatch.setattr(compiler, "_compiled", compile_)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return calls


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[int]:
    """The guest's end of the port, whose host's end is served."""
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(host_compiler, "_device", lambda: Path("/dev/vport0p5"))
    monkeypatch.setattr(host_compiler, "_open", lambda device, until: os.dup(ours.fileno()))
    here = getattr(request, "param", machine())
    thread = Thread(target=compiler.serve, args=(theirs, here))
    thread.start()
    yield ours.fileno()
    ours.close()
    thread.join(10)
    assert not thread.is_alive()
    theirs.close()


def test_a_guest_gets_what_its_host_compiled(
    guest: int, compiled: list[tuple[list[str], str]]
) -> None:
    long = "int x;\n" * 30_000  # several pieces
    assert host_compiler.ask(long, ["-DA=1", "-DB=-2"]) == b'["210000"]'
    assert compiled == [(["-DA=1", "-DB=-2"], long)]


def test_a_source_that_the_host_cannot_compile(
    guest: int, compiled: list[tuple[list[str], str]]
) -> None:
    assert host_compiler.ask("wrong", []) is None
    assert compiled


@pytest.mark.parametrize("flag", ["-fplugin=x", "-D", "-DA", "-DA=1 -x", "-include", "", "-DA=1\n"])
def test_only_definitions_of_numbers_reach_the_hosts_compiler(
    guest: int, compiled: list[tuple[list[str], str]], flag: str
) -> None:
    assert host_compiler.ask("int x;", ["-DA=1", flag]) is None
    assert not compiled


@pytest.mark.parametrize("guest", [machine(ELSEWHERE), machine(kvm=True)], indirect=True)
def test_another_architecture_and_kvm_compile_by_themselves(
    guest: int, compiled: list[tuple[list[str], str]]
) -> None:
    assert host_compiler.ask("int x;", []) is None
    assert not compiled


@pytest.mark.parametrize(
    "left",
    [
        b'{"number": "0123456789abcdef", "fl',
        b'{"number": "0123456789abcdef", "flags": [], "text": "int x;"}\n',
        b"\n\n[]\nnull\n" + b"[" * 100_000 + b"\n",
        b'{"number": "X", "flags": [], "text": ""}\n',
        b'{"number": 7, "flags": 7, "text": 7}\n',
        b"\xff\xfe\n",
    ],
)
def test_what_others_left_in_the_port_disturbs_nobody(
    guest: int, compiled: list[tuple[list[str], str]], left: bytes
) -> None:
    os.write(guest, left)
    assert host_compiler.ask("int x;", []) == b'["6"]'


def test_a_request_without_an_end_is_not_kept(compiled: list[tuple[list[str], str]]) -> None:
    ours, theirs = socket.socketpair()
    thread = Thread(target=compiler.serve, args=(theirs, machine()))
    thread.start()
    with ours:
        ours.sendall(b"x" * (compiler._MOST_BYTES + 1))
        thread.join(10)
        assert not thread.is_alive()
    theirs.close()


def test_a_host_that_says_nothing_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(host_compiler, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(host_compiler, "_device", lambda: Path("/dev/vport0p5"))
    monkeypatch.setattr(host_compiler, "_open", lambda device, until: os.dup(ours.fileno()))
    with ours, theirs:
        assert host_compiler.ask("int x;", []) is None
        theirs.close()
        assert host_compiler.ask("int x;", []) is None


def test_no_port_no_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host_compiler, "_PORTS", tmp_path / "none")
    assert host_compiler.ask("int x;", []) is None
    monkeypatch.setattr(host_compiler, "_PORTS", tmp_path)
    (tmp_path / "vport0p9").mkdir()
    (tmp_path / "vport0p9/name").write_text("org.qemu.guest_agent.0\n")
    assert host_compiler.ask("int x;", []) is None


@given(st.text(), st.lists(st.from_regex(r"-D[A-Z]+=\d+", fullmatch=True)))
def test_text_and_flags_arrive_as_they_were(text: str, flags: list[str]) -> None:
    ours, theirs = socket.socketpair()
    request = json.dumps({"number": "0123456789abcdef", "flags": flags, "text": text})
    with theirs:
        with ours:
            ours.sendall(b"\n" + request.encode() + b"\n")
        assert list(compiler._requests(theirs)) == [("0123456789abcdef", flags, text)]
