"""Coverage-guided fuzzing of what reads bytes: `python guided.py TARGET RUNS`, by atheris.

Without arguments it names the targets. Each starts from a whole file of its kind; libFuzzer ends
with a traceback, and exit code 77, at the first exception that is no answer and no refusal.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

with atheris.instrument_imports(include=["cowtrace"], enable_loader_override=False):
    from made_recordings import answered_or_refused, write

    from cowtrace import proc as procfs
    from cowtrace.cli import cgroups
    from cowtrace.errors import CowtraceError
    from cowtrace.kernel import kallsyms as kernel_symbols
    from cowtrace.kernel.btf import Btf
    from cowtrace.symbolizer.perf_map import PerfMap
    from cowtrace.tracer.bytecode import Bytecode, with_kfuncs, with_maps
    from cowtrace.workloads.oracles.proc_files import smaps_sizes

SCRATCH = Path(tempfile.mkdtemp(prefix="cowtrace-guided-"))
MOST_BYTES = 1 << 17


def put(data: bytes, name: str = "input") -> Path:
    path = SCRATCH / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def recording(data: bytes) -> None:
    answered_or_refused(put(data))


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


def perf_map(data: bytes) -> None:
    found = PerfMap(os.open(put(data), os.O_RDONLY))
    for address in (0, 0x7F00, 1 << 63):
        found.name(address)
    found.close()


def kallsyms(data: bytes) -> None:
    with suppress(ValueError, IndexError):  # the kernel's own: addresses are hexadecimal
        kernel_symbols.read_kallsyms(("do_wp_page", "finish_fault"), put(data))


def kept_programs(data: bytes) -> None:
    with suppress(LookupError, TypeError, ValueError, struct.error):  # then it is compiled again
        for _, code in Bytecode.from_bytes(data).programs:
            with_maps(with_kfuncs(code), lambda place: place)


def proc(data: bytes) -> None:
    sizes = smaps_sizes(0x1000, 0x2000, put(data))
    assert all(size >= 0 for size in sizes.values())
    cgroups._roots(data.decode(errors="surrogateescape"))
    for name in ("status", "cgroup"):
        put(data, f"7/{name}")
    found = procfs.read_place(7, SCRATCH)
    assert found is not None
    (found.cgroup or "").encode()
    put(data, "meminfo")
    procfs._PROC = SCRATCH
    assert (procfs.available_bytes() or 0) >= 0


TARGETS: dict[str, Callable[[bytes], None]] = {
    "recording": recording,
    "btf": btf,
    "perf_map": perf_map,
    "kallsyms": kallsyms,
    "kept_programs": kept_programs,
    "proc": proc,
}


def seed(name: str) -> bytes:
    """A whole file of that kind."""
    if name == "recording":
        return write(SCRATCH / "seed.cow", intervals=3).read_bytes()
    return {
        "btf": _btf(),
        "perf_map": b"1000 20 py::f:/a.py\n1020 8 g\n",
        "kallsyms": b"ffffffff81000000 T do_wp_page\nffffffff81000040 t finish_fault\n",
        "kept_programs": Bytecode((), (("p", bytes.fromhex("b700000000000000" * 2)),)).to_bytes(),
        "proc": b"1000-2000 rw-p 00000000 00:00 0 [heap]\nPrivate_Dirty:  4 kB\n0::/a\n"
        b"36 35 0:30 / /a\\040b rw - cgroup2 none rw\nMemAvailable:  4 kB\n",
    }[name]


def _btf() -> bytes:
    """struct pair { int one; int two; }; enum kind { one, two }; int both(int one);"""
    strings = b"\0int\0pair\0one\0two\0kind\0both\0"

    def at(name: bytes) -> int:
        return strings.index(b"\0" + name + b"\0") + 1

    def kind(number: int, items: int = 0) -> int:
        return number << 24 | items

    types = b"".join(
        (
            struct.pack("<IIII", at(b"int"), kind(1), 4, 32),
            struct.pack("<III", at(b"pair"), kind(4, 2), 8),
            struct.pack("<IIIIII", at(b"one"), 1, 0, at(b"two"), 1, 32),
            struct.pack("<III", at(b"kind"), kind(6, 2), 4),
            struct.pack("<IiIi", at(b"one"), 1, at(b"two"), 2),
            struct.pack("<III", 0, kind(13, 1), 1),
            struct.pack("<II", at(b"one"), 1),
            struct.pack("<III", at(b"both"), kind(12), 4),
        )
    )
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return head + types + strings


def main(name: str, runs: int) -> None:
    corpus = SCRATCH / "corpus"
    corpus.mkdir()
    whole = seed(name)
    TARGETS[name](whole)
    (corpus / "whole").write_bytes(whole)
    options = [f"-runs={runs}", f"-max_len={MOST_BYTES}", "-rss_limit_mb=4096", "-timeout=60"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={SCRATCH}/", str(corpus)],
                  TARGETS[name])  # fmt: skip
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(sys.argv[1], int(sys.argv[2]))
    print("\n".join(TARGETS))
