"""What reads bytes that anybody may have written: one function each, and inputs to begin with.

A new one is a function here with @target, and a file with a whole input in corpus/NAME/. Each run
of the unit tests then reads its corpus and changes of it, and `make fuzz` fuzzes it, guided by
coverage. An input that raised anything but a refusal stays in the corpus.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import socket
import struct
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from unittest import mock

from hostile_recordings import HOSTILE
from made_recordings import answered_or_refused, write

from cowtrace import proc as procfs
from cowtrace.cli import cgroups
from cowtrace.errors import CowtraceError
from cowtrace.kernel import kallsyms as kernel_symbols
from cowtrace.kernel.btf import Btf
from cowtrace.symbolizer import messages
from cowtrace.symbolizer.mapped_file import MappedFile
from cowtrace.symbolizer.memory_limit import MemoryLimit
from cowtrace.symbolizer.memory_map import MemoryMap
from cowtrace.symbolizer.perf_map import PerfMap
from cowtrace.terminal import plain
from cowtrace.tracer.bytecode import Bytecode, with_kfuncs, with_maps
from cowtrace.tracer.symbolizer import Symbolizer
from cowtrace.verify import change_report, saved
from cowtrace.verify.baseline import since
from cowtrace.verify.junit import junit
from cowtrace.verify.ktap import ktap
from cowtrace.verify.matrix import matrix as show_matrix
from cowtrace.workloads.oracles.proc_files import smaps_sizes

CORPUS = Path(__file__).parent / "corpus"
MOST_BYTES = 1 << 17
TARGETS: dict[str, Callable[[bytes], None]] = {}


def target(act: Callable[[bytes], None]) -> Callable[[bytes], None]:
    TARGETS[act.__name__] = act
    return act


@cache
def scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="cowtrace-fuzz-"))


def put(data: bytes, name: str = "input") -> Path:
    path = scratch() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


@target
def recording(data: bytes) -> None:
    answered_or_refused(put(data))


@target
def wal(data: bytes) -> None:
    """Beside a whole recording, which it changes."""
    put(gzip.decompress((CORPUS / "recording" / "schema-2.gz").read_bytes()), "with")
    put(data, "with-wal")
    answered_or_refused(scratch() / "with")


@target
def btf(data: bytes) -> None:
    """The kernel's own bytes, through libbpf: what is looked up in them is not trusted twice."""
    types = Btf(put(data))
    with suppress(CowtraceError):
        for name in ("pair", "one", "two"):
            offset, size = types.offset("pair", name), types.size(name)
            assert offset is None or offset >= 0
            assert size is None or size >= 0
        types.parameters("both")
        types.enumerator("kind", "one")


@target
def perf_map(data: bytes) -> None:
    found = PerfMap(os.open(put(data), os.O_RDONLY))
    for address in (0, 0x7F00, 1 << 63):
        found.name(address)
    found.close()


@target
def elf(data: bytes) -> None:
    """The head of a mapped file; libdw reads the rest, in a process that may end of it."""
    fd = os.open(put(data), os.O_RDONLY)
    with suppress(ValueError, OSError):  # no ELF file
        found = MappedFile(fd, lambda build_id: None, MemoryLimit(lambda limit: None))
        for offset in (0, 0x1000, 1 << 62):
            address = found.virtual_address(offset)
            assert address is None or address >= 0
        found.close()


@target
def maps(data: bytes) -> None:
    """/proc/PID/maps, whose paths the process chose."""
    found = MemoryMap(data)
    for address in (0, 0x7F0000001000, 1 << 63):
        mapping = found.at(address)
        assert mapping is None or mapping.start <= address < mapping.end


@target
def answers(data: bytes) -> None:
    """What a symbolizer that was taken over sends: one message after the other."""
    ours, theirs = messages.pair()
    taken_over = Symbolizer()
    taken_over._process._socket, taken_over._process._is_ready = ours, True
    for message in data.split(b"\n")[:20]:
        with suppress(OSError):  # a full socket
            theirs.send(len(message).to_bytes(4, "little") + message, socket.MSG_DONTWAIT)
    theirs.shutdown(socket.SHUT_WR)
    with mock.patch.object(taken_over._process, "start", side_effect=OSError):
        stack = taken_over.user_stack([16, 23], ((os.getpid(), 1),), 0)
    assert all(isinstance(f.symbol, str) and isinstance(f.address, int) for f in stack)
    taken_over.close()
    theirs.close()


@target
def kallsyms(data: bytes) -> None:
    with suppress(ValueError, IndexError):  # the kernel's own: addresses are hexadecimal
        kernel_symbols.read_kallsyms(("do_wp_page", "finish_fault"), put(data))


@target
def kept_programs(data: bytes) -> None:
    with suppress(LookupError, TypeError, ValueError, struct.error):  # then it is compiled again
        for _, code in Bytecode.from_bytes(data).programs:
            with_maps(with_kfuncs(code), lambda place: place)


@target
def proc(data: bytes) -> None:
    sizes = smaps_sizes(0x1000, 0x2000, put(data))
    assert all(size >= 0 for size in sizes.values())
    cgroups._roots(data.decode(errors="surrogateescape"))
    for name in ("status", "cgroup"):
        put(data, f"7/{name}")
    found = procfs.read_place(7, scratch())
    assert found is not None
    (found.cgroup or "").encode()
    put(data, "meminfo")
    with mock.patch.object(procfs, "_PROC", scratch()):
        assert (procfs.available_bytes() or 0) >= 0


@target
def matrix(data: bytes) -> None:
    """The file of `verify --baseline`: what is read can be compared, shown and written again."""
    with suppress(KeyError, TypeError, ValueError, RecursionError):  # refused
        kernels = saved.parse(data)
        for each in since(kernels, kernels[::-1]):
            plain.write(io.StringIO(), change_report.changes(each, "FILE"))
        plain.write(io.StringIO(), show_matrix(kernels))
        ET.fromstring(junit(kernels))
        ktap(kernels).encode()
        assert saved.parse(saved.text_of(kernels).encode()) == kernels


def inputs(name: str) -> Iterator[tuple[str, bytes]]:
    """The corpus of a target, by file name; files that end in .gz are unpacked."""
    for path in sorted((CORPUS / name).iterdir()):
        data = path.read_bytes()
        yield path.name, gzip.decompress(data) if path.suffix == ".gz" else data
    if name == "recording":  # of the schema that is written now
        for kind, make in {"whole": write, **HOSTILE}.items():
            with tempfile.TemporaryDirectory() as folder:
                make(Path(folder, "made"))
                if (made := _content(Path(folder, "made"))) is not None:
                    yield kind, made


def _content(path: Path) -> bytes | None:
    """None: it is a pipe or a device, or large."""
    ordinary = path.is_file() and path.stat().st_size <= MOST_BYTES
    return path.read_bytes() if ordinary else None


def keep(name: str, data: bytes) -> Path:
    """Add an input to the corpus: it found something."""
    path = CORPUS / name / f"crash-{hashlib.sha1(data).hexdigest()}"
    path.write_bytes(data)
    return path
