"""What the VM's guest asks its host to compile, and what the host answers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowtrace.errors import CowtraceError
from cowtrace.kernel.limits import SLOTS
from cowtrace.kernel.plan import CELLS
from cowtrace.shipped import bpf_dir
from cowtrace.tracer import host_compiler
from cowtrace.tracer.compiler import bpf_text, digest, flags_of
from cowtrace.vm import compiler, qemu
from cowtrace.vm.bootable import Hardware
from cowtrace.vm.guest_arch import ARCHES

IMAGE = Path("/root.ext4")


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, int]]:
    """What the host's compiler was asked to define."""
    calls: list[Mapping[str, int]] = []

    def compile_(image: Path, folder: str, digest: str, defines: Mapping[str, int]) -> bytes:
        calls.append(defines)
        return f'["{digest}"]'.encode() if digest else b""

    monkeypatch.setattr(compiler, "_compiled", compile_)
    return calls


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The guest's end of the port, whose host's end is served."""
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(host_compiler, "_device", lambda: Path("/dev/vport0p5"))
    monkeypatch.setattr(host_compiler, "_open", lambda device, until: os.dup(ours.fileno()))
    thread = Thread(target=compiler.serve, args=(theirs, IMAGE))
    thread.start()
    yield ours
    ours.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_guest_gets_what_its_host_compiled(
    guest: socket.socket, compiled: list[Mapping[str, int]]
) -> None:
    assert host_compiler.ask("1f", ["-DA=1", "-DPG_head=-2"]) == b'["1f"]'
    assert compiled == [{"A": 1, "PG_head": -2}]


def test_what_the_host_cannot_compile(
    guest: socket.socket, compiled: list[Mapping[str, int]]
) -> None:
    assert host_compiler.ask("", ["-DA=1"]) is None
    assert compiled


@pytest.mark.parametrize(
    "flag",
    [
        *("-fplugin=x", "-D", "-DA", "-DA=1 -x", "-include", "", "-DA=1\n", "-DA=x", "-Du32=8"),
        *(f"-DSLOTS={SLOTS + 1}", f"-DCELLS={CELLS * 2}", "-DA=" + "9" * 20, "-DA=\u0661"),
    ],
)
def test_a_guest_chooses_numbers_alone_and_no_large_map(
    guest: socket.socket, compiled: list[Mapping[str, int]], flag: str
) -> None:
    host_compiler.ask("1f", ["-DA=1", flag])
    assert compiled == [{}]


def test_only_cowtraces_own_source_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def run(command: list[str], **how: object) -> subprocess.CompletedProcess[bytes]:
        started.append((command[-1], how["input"]))
        return subprocess.CompletedProcess(command, 0, b"[]")

    monkeypatch.setattr(subprocess, "run", run)
    text = bpf_text(bpf_dir(), {"PLAN_KPROBE": 1})
    for defines in ({"PLAN_KPROBE": 1}, {"PLAN_TRACEPOINT": 1}, {}):
        answer = compiler._compiled(IMAGE, "/folder", digest(text), defines)
        assert answer == (b"[]" if "PLAN_KPROBE" in defines else b"")
    assert compiler._compiled(IMAGE, "/folder", digest("int x;"), {"PLAN_KPROBE": 1}) == b""
    assert started == [("-DPLAN_KPROBE=1", text.encode())]


@pytest.mark.parametrize(
    ("arch", "kvm", "icount", "user", "able"),
    [
        ("amd64", False, False, 0, True),
        ("arm64", False, False, 0, False),
        ("amd64", True, False, 0, False),
        ("amd64", False, True, 0, False),
        ("amd64", False, False, 1000, False),
    ],
)
def test_who_compiles(
    arch: str, kvm: bool, icount: bool, user: int, able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = os.uname_result(("Linux", "here", "6.1", "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: here)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    accel = qemu.Accel(kvm, "test")
    assert compiler.able(ARCHES[arch], accel, Hardware(icount=icount)) is able


@pytest.mark.parametrize(
    "left",
    [
        b'{"number": "0123456789abcdef", "fl',
        b'{"number": "0123456789abcdef", "digest": "2f", "flags": []}\n',
        b"\n\n[]\nnull\n" + b"[" * 50_000 + b"\n",
        b'{"number": "X", "digest": "", "flags": []}\n',
        b'{"number": 7, "digest": 7, "flags": 7}\n',
        b"\xff\xfe\n",
    ],
)
def test_what_others_left_in_the_port_disturbs_nobody(
    guest: socket.socket, compiled: list[Mapping[str, int]], left: bytes
) -> None:
    guest.sendall(left)
    assert host_compiler.ask("1f", ["-DA=1"]) == b'["1f"]'


@pytest.mark.parametrize(
    "error", [CowtraceError("no", hint="none"), OSError(5, "no"), ValueError("no")]
)
def test_a_host_that_fails_closes_the_port(
    guest: socket.socket, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> bytes:
        raise error

    monkeypatch.setattr(compiler, "_compiled", fail)
    begun = time.monotonic()
    assert host_compiler.ask("1f", ["-DA=1"]) is None
    assert host_compiler.ask("1f", ["-DA=1"]) is None
    assert time.monotonic() - begun < host_compiler._PATIENCE_SECONDS


def test_a_request_without_an_end_closes_the_port(guest: socket.socket) -> None:
    long = b"x" * compiler._MOST_BYTES
    with pytest.raises(ConnectionError):
        guest.sendall(long * 100)


def test_a_host_that_says_nothing_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(host_compiler, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(host_compiler, "_device", lambda: Path("/dev/vport0p5"))
    monkeypatch.setattr(host_compiler, "_open", lambda device, until: os.dup(ours.fileno()))
    with ours, theirs:
        assert host_compiler.ask("1f", []) is None


def test_no_port_no_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host_compiler, "_PORTS", tmp_path / "none")
    assert host_compiler.ask("1f", []) is None
    monkeypatch.setattr(host_compiler, "_PORTS", tmp_path)
    (tmp_path / "vport0p9").mkdir()
    (tmp_path / "vport0p9/name").write_text("org.qemu.guest_agent.0\n")
    assert host_compiler.ask("1f", []) is None


@given(
    st.text(),
    st.dictionaries(
        st.from_regex(r"[A-Z]{3}", fullmatch=True), st.integers(-(10**18), 10**18), min_size=1
    ),
)
def test_a_request_arrives_as_it_was(digest: str, defines: dict[str, int]) -> None:
    ours, theirs = socket.socketpair()
    fields = {"number": "0123456789abcdef", "digest": digest, "flags": flags_of(defines)}
    with theirs:
        with ours:
            ours.sendall(b"\n" + json.dumps(fields).encode() + b"\n")
        assert list(compiler._requests(theirs)) == [("0123456789abcdef", digest, defines)]
