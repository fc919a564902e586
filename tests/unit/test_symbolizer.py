"""Stacks are named by a child without privileges, whatever the files that it reads do to it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from cowtrace.errors import CowtraceError
from cowtrace.symbolizer import messages
from cowtrace.symbolizer.libdw import libdw
from cowtrace.tracer import symbolizer as module
from cowtrace.tracer import symbolizer_process
from cowtrace.tracer.symbolizer import REFUSED, Symbolizer
from cowtrace.tracer.symbolizer_process import DIED, LARGE, SLOW
from cowtrace.tracer.symbolizer_replies import UNKNOWN

ME = (os.getpid(), 1)
# Maps the file of its argument executable; prints where; ends with its standard input.
MAPS_A_FILE = """
import ctypes, mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
size = os.fstat(file).st_size
area = mmap.mmap(file, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
print(ctypes.addressof(ctypes.c_char.from_buffer(area)), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Iterator[Symbolizer]:
    """Has room, however much memory the process of the tests takes."""
    monkeypatch.setattr(module, "_TOGETHER_BYTES", 2 << 40)
    monkeypatch.setattr(module, "_OWN_BYTES", 1 << 40)
    try:
        libdw()
    except CowtraceError as error:
        pytest.skip(str(error))
    symbolizer = Symbolizer()
    symbolizer.new_round()
    yield symbolizer
    symbolizer.close()


def address_of(function: str) -> int:
    found = ctypes.cast(getattr(ctypes.CDLL(None), function), ctypes.c_void_p).value
    assert found
    return found


def symbol(named: Symbolizer, address: int, process: tuple[int, int] = ME) -> tuple[str, str]:
    (frame,) = named.user_stack([address], (process,), 0)
    assert frame.address == address
    return frame.symbol, frame.module


def child(named: Symbolizer) -> int:
    assert named._process._child
    return named._process._child.pid


def test_a_function_of_a_library_has_its_name(named: Symbolizer) -> None:
    assert symbol(named, address_of("getppid")) == ("getppid", "libc.so.6")
    assert symbol(named, 16) == (UNKNOWN, "")
    assert named.causes.total() == 0


def test_the_child_can_do_nothing_else(named: Symbolizer) -> None:
    symbol(named, 16)
    status = dict(
        line.split(":\t", 1)
        for line in Path("/proc", str(child(named)), "status").read_text().splitlines()
    )
    assert {status[f"Cap{which}"] for which in ("Inh", "Prm", "Eff", "Amb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    links = [str(f.readlink()) for f in Path("/proc", str(child(named)), "fd").iterdir()]
    # Its socket, nothing to write to, its own size, and a copy of the vDSO.
    assert {link.partition(":")[0] for link in links} <= {
        "socket", "/dev/null", f"/proc/{child(named)}/statm", "/memfd",
    }  # fmt: skip


def dies(named: Symbolizer, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> None:
    """Each child ends at its first request, with that exit code, or by minus that signal."""
    end = f"os._exit({code})" if code >= 0 else f"os.kill(os.getpid(), {-code})"
    program = (
        "import os, socket; s = socket.socket(fileno=0);"
        f"s.send(b'\\x0b\\0\\0\\0{{\"ready\":0}}'); s.recv(1 << 20); {end}"
    )
    monkeypatch.setattr(symbolizer_process, "command", lambda *_: [sys.executable, "-c", program])


def test_a_process_that_ends_it_is_given_up_and_another_is_named(
    named: Symbolizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        dies(named, patch)
        assert symbol(named, address_of("getppid")) == (UNKNOWN, "")
    assert named.causes == {DIED: 1}
    assert symbol(named, address_of("getppid")) == (UNKNOWN, "")  # it may do so again
    assert named.causes == {DIED: 1, REFUSED: 1}
    other = os.getpid(), 2
    assert symbol(named, address_of("getppid"), other) == ("getppid", "libc.so.6")


def test_one_that_another_has_harmed_is_replaced(named: Symbolizer) -> None:
    symbol(named, 16)
    os.kill(child(named), signal.SIGKILL)
    assert symbol(named, address_of("getppid")) == ("getppid", "libc.so.6")
    assert named.causes == {DIED: 1}


def test_a_user_whose_processes_end_it_often_is_not_named(
    named: Symbolizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies(named, monkeypatch)
    for start in range(module._STRIKES + 2):
        symbol(named, 16, (os.getpid(), start))
    assert named.causes == {DIED: module._STRIKES, REFUSED: 2}


def test_when_it_stops_it_is_ended(named: Symbolizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.2)
    symbol(named, 16)
    stopped = child(named)
    os.kill(stopped, signal.SIGSTOP)
    assert symbol(named, address_of("getppid")) == (UNKNOWN, "")
    assert named.causes == {SLOW: 1}
    assert not Path("/proc", str(stopped)).exists()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """Inside its context, the tracer leaves the child the least."""

    @contextmanager
    def tracer_is_large() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(module, "resident_bytes", lambda _: module._TOGETHER_BYTES)
            yield

    return tracer_is_large


def test_when_the_tracer_needs_the_memory_it_is_ended_and_nobody_is_given_up(
    named: Symbolizer,
    monkeypatch: pytest.MonkeyPatch,
    full: Callable[[], AbstractContextManager[None]],
) -> None:
    symbol(named, 16)
    with full(), monkeypatch.context() as patch:
        patch.setattr(symbolizer_process, "resident_bytes", lambda _: module._TOGETHER_BYTES)
        os.kill(child(named), signal.SIGSTOP)  # its size is looked at while it does not answer
        assert symbol(named, address_of("getppid")) == (UNKNOWN, "")
    assert named.causes == {LARGE: 1}
    assert symbol(named, address_of("getppid")) == ("getppid", "libc.so.6")


@pytest.mark.parametrize(
    ("code", "cause", "then"),
    [(messages.EXIT_NO_MEMORY, LARGE, "getppid"), (-signal.SIGSEGV, DIED, UNKNOWN)],
)
def test_who_ends_it_while_it_has_little_room_is_given_up_unless_that_was_the_reason(
    named: Symbolizer,
    monkeypatch: pytest.MonkeyPatch,
    full: Callable[[], AbstractContextManager[None]],
    code: int,
    cause: str,
    then: str,
) -> None:
    with full(), monkeypatch.context() as patch:
        dies(named, patch, code)
        assert symbol(named, address_of("getppid")) == (UNKNOWN, "")
    assert named.causes == {cause: 1}
    assert symbol(named, address_of("getppid"))[0] == then


def test_beside_the_files_that_it_maps_it_takes_little() -> None:
    code = """
import os
from cowtrace.symbolizer.memory_limit import MemoryLimit, set_data_bytes
memory = MemoryLimit(set_data_bytes)
memory.start_request(64 << 20, 0)
for _ in range(2):
    try:
        bytearray(96 << 20)
        print("granted")
    except MemoryError:
        print("refused")
    file = os.memfd_create("large")
    os.truncate(file, 1 << 30)
    memory.map_file(file)
"""
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert said == "refused\ngranted\n"


def test_a_file_with_more_symbols_than_fit_has_no_names_until_there_is_room(
    named: Symbolizer,
    monkeypatch: pytest.MonkeyPatch,
    full: Callable[[], AbstractContextManager[None]],
) -> None:
    with full(), monkeypatch.context() as patch:
        patch.setattr(module, "_LEAST_BYTES", 1)
        assert symbol(named, address_of("getppid"))[0] == UNKNOWN
    assert named.causes == {LARGE: 1}
    assert symbol(named, address_of("getppid")) == ("getppid", "libc.so.6")


def test_a_round_has_an_end(named: Symbolizer) -> None:
    named._left = 0
    assert symbol(named, address_of("getppid")) == (UNKNOWN, "")
    assert named.causes == {REFUSED: 1}
    named.new_round()
    assert symbol(named, address_of("getppid")) == ("getppid", "libc.so.6")


def test_a_slow_machine_gets_longer_rounds(
    named: Symbolizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROUND_SECONDS", 0.0)
    named._left = named._round_seconds = 1e-9
    for _ in range(3):
        assert symbol(named, address_of("getppid")) == ("getppid", "libc.so.6")
    named.new_round()
    assert named._left == named._round_seconds > 0.1


@pytest.mark.parametrize(
    "answer",
    [b"", b"x", b"\2\0\0\0[]", b"\2\0\0\0{}", b'\x0c\0\0\0{"frames":1}', b"\xff" * 99,
     b'\x14\0\0\0{"frames":[[1,2,3]]}', b'\x0d\0\0\0{"open":[[]]}', b"[" * 100_000],
)  # fmt: skip
def test_a_child_that_was_taken_over_can_only_lie(
    named: Symbolizer, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    ready = b"\2\0\0\0{}"
    code = (
        "import socket; s = socket.socket(fileno=0)\n"
        f"s.send({ready!r})\nwhile s.recv(1 << 20): s.send({answer!r})"
    )
    monkeypatch.setattr(symbolizer_process, "command", lambda *_: [sys.executable, "-c", code])
    monkeypatch.setattr(module, "_SECONDS", 0.5)
    assert symbol(named, address_of("getppid")) == (UNKNOWN, "")
    assert named.causes.total() == 1


def test_a_program_that_truncates_its_own_file_ends_the_child_alone(
    named: Symbolizer, tmp_path: Path
) -> None:
    library = Path(os.path.realpath("/proc/self/exe"))
    copy = tmp_path / "program"
    shutil.copy(library, copy)
    with subprocess.Popen(
        [sys.executable, "-c", MAPS_A_FILE, copy],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        start = int(process.stdout.readline())
        found = symbol(named, start + 0x100000, (process.pid, 1))
        assert found[1] == "program"
        os.truncate(copy, 0)
        for at in range(0x100000, 0x200000, 0x10000):
            symbol(named, start + at + 8, (process.pid, 1))
        process.communicate()
    assert named.causes[DIED] == 1
    assert symbol(named, address_of("getppid")) == ("getppid", "libc.so.6")
