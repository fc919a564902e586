"""bpf/cow.h and its Python mirrors say the same."""

from __future__ import annotations

import re
import struct
from enum import IntEnum
from typing import Any, NamedTuple

import pytest

from cowtrace.kernel import memory_layout
from cowtrace.kernel.addresses import VARIABLES
from cowtrace.kernel.arch import ARCHES
from cowtrace.kernel.memory_layout import MemoryLayout
from cowtrace.model import LOST, FaultKind, MappingType, Origin, Source
from cowtrace.shipped import bpf_dir
from cowtrace.tracer import abi
from cowtrace.tracer.loader import SINGLE_MAPS
from cowtrace.tracer.losses import COUNTERS

HEADER = re.sub(r"/\*.*?\*/", "", (bpf_dir() / "cow.h").read_text(), flags=re.DOTALL)
for name, value in re.findall(r"#define (\w+) (\d+)", HEADER):
    HEADER = HEADER.replace(f"[{name}]", f"[{value}]")
FORMATS = {"u8": "B", "u32": "I", "u64": "Q", "char": "s"}


def enumerators(name: str) -> list[str]:
    body = re.search(rf"enum {name} {{(.*?)}};", HEADER, re.DOTALL)
    assert body, f"no enum {name} in cow.h"
    return re.findall(r"[A-Z_]+", body[1])


def members(name: str) -> list[tuple[str, str, str]]:
    """Type, name and length, empty for no array."""
    body = re.search(rf"struct {name} {{(.*?)}};", HEADER, re.DOTALL)
    assert body, f"no struct {name} in cow.h"
    return re.findall(r"(u8|u32|u64|char|struct \w+) (\w+)(?:\[(\w+)\])?;", body[1])


def struct_format(name: str) -> str:
    """Padding as bytes that are skipped."""
    return "".join(
        struct_format(kind.removeprefix("struct "))
        if kind.startswith("struct ")
        else "x" * struct.calcsize(f"{count}{FORMATS[kind]}")
        if field.startswith("pad")
        else f"{count}{FORMATS[kind]}"
        for kind, field, count in members(name)
    )


@pytest.mark.parametrize(
    ("enum", "mirror", "prefix"),
    [
        ("fault_kind", FaultKind, ""),
        ("fault_source", Source, "SOURCE_"),
        ("fault_origin", Origin, "ORIGIN_"),
        ("mapping_type", MappingType, "MAPPING_"),
    ],
)
def test_enums_are_mirrored(enum: str, mirror: type[IntEnum], prefix: str) -> None:
    names = [name.removeprefix(prefix) for name in enumerators(enum)]
    assert names == [member.name for member in mirror]
    assert [member.value for member in mirror] == list(range(len(names)))


def test_counters_are_mirrored() -> None:
    *names, last = enumerators("counter")
    assert last == "COUNTERS"
    words = [re.sub("^(LOSS|COUNT)_", "", name).lower().replace("_", " ") for name in names]
    assert words == list(COUNTERS)
    assert set(LOST) <= set(COUNTERS)


def test_the_kernels_addresses_are_in_the_same_order() -> None:
    *names, last = enumerators("kernel_address")
    assert last == "KERNEL_ADDRESSES"
    code = ["COPY_CODE", "KRETPROBE_RETURN", "GRAPH_RETURN"]
    variables = (name.strip("_").upper() for name in (*VARIABLES, *MemoryLayout._fields))
    assert [*variables, *code] == names
    assert (*memory_layout.VARIABLES, "zero_pfn") == MemoryLayout._fields


def test_maps_of_one_element_are_mirrored() -> None:
    *names, last = enumerators("single_map")
    assert last == "SINGLE_MAPS"
    assert [name.lower() for name in names] == list(SINGLE_MAPS)


@pytest.mark.parametrize(
    ("name", "mirror"),
    [
        ("fault_key", abi.FAULT_KEY),
        ("fault_sum", abi.FAULT_SUM),
        ("page_fault_sum", abi.PAGE_FAULT_SUM),
        ("process", abi.PROCESS),
        ("cell", abi.CELL),
        ("detail_cell", abi.DETAIL_CELL),
        ("page_fault_key", abi.PAGE_FAULT_KEY),
        ("detail_key", abi.DETAIL_KEY),
        ("detail_sum", abi.DETAIL_SUM),
        ("mapping_key", abi.MAPPING_KEY),
        ("mapping", abi.MAPPING),
        ("generation", abi.GENERATION),
        ("event", abi.EVENT),
        ("sample", abi.SAMPLE),
        ("written", abi.WRITTEN),
        ("runtime", abi.RUNTIME),
        ("python_frame", abi.PYTHON_FRAME),
        ("stack", abi.STACK),
    ],
)
def test_structs_are_mirrored(name: str, mirror: abi.Layout[Any]) -> None:
    expected = struct.Struct("<" + struct_format(name))
    assert expand(mirror.struct.format) == expand(expected.format)
    # No implicit padding: the compiler's natural alignment adds nothing.
    assert struct.calcsize("@" + struct_format(name)) == expected.size == mirror.size


@pytest.mark.parametrize(
    ("name", "mirror"),
    [
        ("fault_key", abi.FaultKey),
        ("fault_sum", abi.FaultSum),
        ("page_fault_sum", abi.PageFaultSum),
        ("process", abi.Process),
        ("cell", abi.Cell),
        ("detail_cell", abi.DetailCell),
        ("page_fault_key", abi.PageFaultKey),
        ("detail_key", abi.DetailKey),
        ("detail_sum", abi.DetailSum),
        ("mapping_key", abi.MappingKey),
        ("mapping", abi.Mapping),
        ("generation", abi.Generation),
        ("sample", abi.Sample),
        ("runtime", abi.Runtime),
        ("python_frame", abi.PythonFrame),
        ("stack_dump", abi.StackDump),
        ("event", abi.Event),
    ],
)
def test_fields_have_their_names(name: str, mirror: type[NamedTuple]) -> None:
    fields = [field for _, field, _ in members(name) if not field.startswith("pad")]
    assert fields == [*mirror._fields, *(["regs", "dump"] if name == "stack_dump" else [])]


def test_registers_are_mirrored() -> None:
    """Of each architecture, which has a file that bpf/arch.h includes."""
    chosen = re.findall(r'#include "arch_(\w+)\.h"', (bpf_dir() / "arch.h").read_text())
    assert chosen == list(ARCHES)
    for arch in ARCHES.values():
        header = (bpf_dir() / f"arch_{arch.machine}.h").read_text()
        found = dict(re.findall(r"#define (REGS_WORDS|USER_SP|USER_IP)\s+(\d+)", header))
        assert found == {
            "REGS_WORDS": str(arch.regs_words),
            "USER_SP": str(arch.dwarf_order[arch.stack_pointer]),
            "USER_IP": str(arch.dwarf_order[arch.instruction_pointer]),
        }


def expand(form: str) -> str:
    return re.sub(r"(\d+)([BIQx])", lambda m: int(m[1]) * m[2], form)
