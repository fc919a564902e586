"""What was asked of a kernel's BTF once is answered without reading it again."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.btf import VMLINUX, Btf

NOWHERE = Path("/nonexistent/btf")


def test_known_answers_need_no_btf() -> None:
    known = {"offset vm_fault pte": 88, "offset vm_fault no_such": None, "_parameters f": ["vmf"]}
    btf = Btf(NOWHERE, known)
    assert btf.offset("vm_fault", "pte") == 88
    assert btf.offset("vm_fault", "no_such") is None
    assert btf.parameters("f") == ("vmf",)
    assert btf.answers == known


def test_other_questions_do() -> None:
    with pytest.raises(CowtraceError, match="no type information") as error:
        Btf(NOWHERE, {"offset vm_fault pte": 88}).offset("vm_fault", "vma")
    assert error.value.exit_code == EXIT_NO_PLAN


@pytest.mark.skipif(not VMLINUX.exists(), reason="this kernel has no BTF")
def test_answers_are_the_same_when_they_come_back() -> None:
    def asked(btf: Btf) -> tuple[object, ...]:
        return (
            btf.offset("vm_fault", "pte"),
            btf.offset("vm_fault", "no_such"),
            btf.size("percpu_counter"),
            btf.parameters("handle_mm_fault"),
            btf.enumerator("fault_flag", "FAULT_FLAG_WRITE"),
            btf.has_tracepoint("sched_process_fork"),
            btf.struct_id("pt_regs"),
            btf.function_id("no_such_function"),
        )

    first = Btf()
    answers = asked(first)
    assert answers[0] is not None
    assert asked(Btf(NOWHERE, json.loads(json.dumps(first.answers)))) == answers


def made(*types: bytes, strings: bytes = b"\0pair\0one\0") -> bytes:
    body = b"".join(types)
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings))
    return head + body + strings


@pytest.mark.parametrize(
    "member",
    [
        (0x7FFF, 1, 0),  # its name lies outside of the names
        (0, 1, 0),  # nameless, of the very struct that it is in
        (0, 999, 0),  # nameless, of a type that is not there
    ],
)
def test_damaged_type_information_is_said_to_be(
    tmp_path: Path, member: tuple[int, int, int]
) -> None:
    path = tmp_path / "btf"
    path.write_bytes(made(struct.pack("<III", 1, 4 << 24 | 1, 8), struct.pack("<III", *member)))
    with pytest.raises(CowtraceError, match=r"damaged|no type information") as error:
        Btf(path).offset("pair", "one")
    assert error.value.exit_code == EXIT_NO_PLAN
