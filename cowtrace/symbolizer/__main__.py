"""Answer the tracer's requests until it is gone. Its standard input is the socket.

The arguments: the tracer's PID, and the monotonic clock when it started this process.
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

from cowtrace import sandbox
from cowtrace.libc import end_with, libc
from cowtrace.symbolizer import messages
from cowtrace.symbolizer.cpython.mixed_stack import MixedFrame, NativeFrame
from cowtrace.symbolizer.demangle import cxx
from cowtrace.symbolizer.interpreters import Interpreters
from cowtrace.symbolizer.kernel_symbols import KernelSymbols
from cowtrace.symbolizer.libdw import libdw
from cowtrace.symbolizer.mapped_file import MappedFile
from cowtrace.symbolizer.memory_limit import MemoryLimit, set_data_bytes
from cowtrace.symbolizer.memory_map import VDSO, MemoryMap, read_maps
from cowtrace.symbolizer.messages import Identity
from cowtrace.symbolizer.perf_map import PerfMaps
from cowtrace.symbolizer.traced_process import Files, TracedProcess
from cowtrace.symbolizer.unwind import Dump, Unwinder

_MOST_PROCESSES = 64
_MOST_UNWINDERS = 32
_MOST_RESIDENT_BYTES = 32 << 20  # then everything is forgotten
_MOST_DATA_BYTES = 1 << 30  # with files, which are mapped
_MOST_MAPPED_BYTES = _MOST_DATA_BYTES // 2  # of files; then everything is forgotten, too
_MOST_FILES = 2048
_RESIDENT, _DATA = 1, 5  # fields of /proc/PID/statm, in pages
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_PYTHON = "py::"  # of CPython's perf trampolines

# Memory, and descriptors that it has: it opens none.
_SYSTEM_CALLS = (
    *("read", "pread64", "write", "writev", "recvmsg", "sendmsg", "lseek", "fstat", "newfstatat"),
    *("close", "dup"),
    *("fcntl", "mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "futex"),
    sandbox.Call("prlimit64", 0, (0,)),  # its own
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "exit_group"),
)

Frames = list[NativeFrame] | list[MixedFrame]


class Symbolizer:
    """Names the frames of stacks. Asks for each file through the socket."""

    def __init__(self, tracer: socket.socket, memory: MemoryLimit) -> None:
        self._tracer = tracer
        self._memory = memory
        self._files = Files(self._debug_file, _own_vdso(memory), memory)
        self._processes: OrderedDict[Identity, TracedProcess] = OrderedDict()
        self._unwinders: OrderedDict[Identity, Unwinder] = OrderedDict()
        self._perf_maps = PerfMaps()
        self._interpreters = Interpreters()
        self._kernel: KernelSymbols | None = None
        self._round = 0

    def answer(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """The reply to one request: frames, innermost first; or what writes changed."""
        if request["family"] is None:
            return {"frames": self._kernel_frames(request["addresses"])}
        self._round = request["round"]
        family = [(pid, start) for pid, start in request["family"]]
        index = self._owner(family, request["living"])
        if request["want"] == "frames":
            return {"frames": self._frames(request, payload, family, index)}
        owner = None if index is None else family[index]
        process = self._processes.get(owner) if owner else None
        family += [(pid, start) for pid, start in request["relatives"]]
        return self._interpreters.explain(family, owner, process, payload, self._round, self._open)

    def _frames(
        self,
        request: dict[str, Any],
        payload: bytes,
        family: list[Identity],
        index: int | None,
    ) -> Frames:
        names: dict[int, tuple[str, str]] = {}

        def name(address: int) -> tuple[str, str]:
            if address not in names:
                names[address] = self._name(address, family, index)
            return names[address]

        if request["unwind"]:
            dump = Dump.of(tuple(request["addresses"]), payload)
            addresses = self._unwind(
                dump, family, index, lambda at: name(at)[0].startswith(_PYTHON)
            )
        else:
            addresses = tuple(request["addresses"])
        # A call can be the last instruction of a function: look up the call, not what follows it.
        places = (address - (at > 0) for at, address in enumerate(addresses))
        native = [(*name(place), at) for place, at in zip(places, addresses, strict=True)]
        process = None if index is None else self._processes.get(family[index])
        if index is None or process is None or not request["python"]:
            return native
        return self._interpreters.with_python(
            family[index], process, native, request["python"], self._round, self._open
        )

    def forget(self) -> None:
        """Close everything, since this process has grown."""
        while self._unwinders:
            self._unwinders.popitem()[1].close()
        self._processes.clear()
        self._perf_maps.close()
        self._interpreters.close()
        self._files.close()
        self._memory.files_closed()

    def _owner(self, family: list[Identity], living: int | None) -> int | None:
        """Whose memory names the frames: the nearest living process, else the nearest known."""
        if living is None:
            return next((i for i, each in enumerate(family) if each in self._processes), None)
        owner = family[living]
        process = self._processes.pop(owner, None) or TracedProcess(self._files)
        self._processes[owner] = process
        if len(self._processes) > _MOST_PROCESSES:
            self._processes.popitem(last=False)
        if process.round != self._round:
            fd = self._open("maps")
            text = b""
            if fd is not None:
                with suppress(OSError):  # it ends
                    text = read_maps(fd)
                os.close(fd)
            if process.update(text, self._round) and owner in self._unwinders:
                self._unwinders.pop(owner).close()
        return living

    def _name(self, address: int, family: list[Identity], index: int | None) -> tuple[str, str]:
        symbol, module = "", ""
        if index is not None:
            symbol, module = self._processes[family[index]].name(address, self._open)
        return symbol or self._runtime_name(address, family), module

    def _runtime_name(self, address: int, family: list[Identity]) -> str:
        """The name of code that a runtime generated, in this process or before it was forked."""
        names = (
            self._perf_maps.name(address, process, index, self._round, self._open)
            for index, process in enumerate(family)
        )
        return next((name for name in names if name), "")

    def _unwind(
        self, dump: Dump, family: list[Identity], index: int | None, is_trampoline: Any
    ) -> tuple[int, ...]:
        if index is None:
            return (dump.regs[-1],)
        owner = family[index]
        unwinder = self._unwinders.pop(owner, None) or Unwinder(self._processes[owner])
        self._unwinders[owner] = unwinder
        if len(self._unwinders) > _MOST_UNWINDERS:
            self._unwinders.popitem(last=False)[1].close()
        return unwinder.addresses(dump, is_trampoline, self._open)

    def _kernel_frames(self, addresses: list[int]) -> Frames:
        if self._kernel is None and (fd := self._open("kallsyms")) is not None:
            self._kernel = KernelSymbols(fd)
        find = self._kernel.name if self._kernel else lambda at: ""
        return [(find(at - (i > 0)), "[kernel]", at) for i, at in enumerate(addresses)]

    def _debug_file(self, build_id: str) -> int | None:
        return self._open("debug-file", build_id)

    def _open(self, kind: str, *which: object) -> int | None:
        """Ask the tracer for a file."""
        messages.send(self._tracer, {"open": [kind, *which]})
        _, _, fds = messages.receive(self._tracer, descriptors=1)
        return fds[0] if fds else None


def serve(tracer: socket.socket) -> None:
    """Answer until the tracer is gone."""
    memory = MemoryLimit(set_data_bytes)
    symbolizer = Symbolizer(tracer, memory)
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    libdw()
    cxx()
    end_with(int(sys.argv[1]))  # also when it is stuck
    # Now: in the sandbox, no clock can be read that takes a system call, as an HPET does.
    start_seconds = time.monotonic() - float(sys.argv[2])
    sandbox.enter(
        _SYSTEM_CALLS,
        {
            resource.RLIMIT_DATA: _MOST_DATA_BYTES,
            resource.RLIMIT_NOFILE: _MOST_FILES,
            resource.RLIMIT_FSIZE: 0,
        },
    )
    started = _pages(statm, _RESIDENT) * _PAGE_BYTES
    # Data that is not resident: from now on the heap grows into what is left of the room.
    beside = _pages(statm, _DATA) * _PAGE_BYTES - started
    messages.send(tracer, {"ready": start_seconds})
    with suppress(EOFError):
        while True:
            request, payload, _ = messages.receive(tracer)
            room = request["room"]
            memory.start_request(heap_bytes=beside + room, symbol_bytes=room - started)
            reply = symbolizer.answer(request, payload)
            messages.send(tracer, reply | {"large": memory.too_large})
            resident_bytes = _pages(statm, _RESIDENT) * _PAGE_BYTES
            if resident_bytes > _MOST_RESIDENT_BYTES or memory.mapped_bytes > _MOST_MAPPED_BYTES:
                symbolizer.forget()
                libc().malloc_trim(0)


def _own_vdso(memory: MemoryLimit) -> MappedFile | None:
    """The kernel's code that is mapped into each process. It is in no file: copy it into one."""
    with Path("/proc/self/maps").open("rb") as file:
        mapping = MemoryMap(file.read()).named(VDSO)
    if mapping is None:
        return None
    fd = os.memfd_create("vdso")
    os.write(fd, ctypes.string_at(mapping.start, mapping.end - mapping.start))
    return MappedFile(fd, lambda build_id: None, memory)


def _pages(statm: int, field: int) -> int:
    return int(os.pread(statm, 100, 0).split()[field])


if __name__ == "__main__":
    try:
        serve(socket.socket(fileno=0))
    except MemoryError:
        os._exit(messages.EXIT_NO_MEMORY)
    except Exception:
        os._exit(os.EX_SOFTWARE)
