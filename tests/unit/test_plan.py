"""Kernel facts -> plans: by symbol and member, and each lack is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cowtrace.kernel.facts import ENUMERATORS, FUNCTIONS, MEMBERS, TRACEPOINTS, KernelFacts
from cowtrace.kernel.plan import PLAN_NAMES, Hook, NoPlan, PlanName, ProbePlan, probe_plan
from cowtrace.model import FaultKind

COMPLETE = KernelFacts(
    release="6.1.0-test",
    machine="x86_64",
    page_bytes=4096,
    offsets={macro: 8 * i for i, macro in enumerate(MEMBERS)},
    constants={macro: value for macro, (_, value) in ENUMERATORS.items()},
    parameters=dict.fromkeys(FUNCTIONS, ("vmf",)),
    symbols=frozenset(FUNCTIONS),
    tracepoints=frozenset(TRACEPOINTS),
    kprobes=True,
    fexit_refused=None,
    pid_max=32768,
)


def plan(name: PlanName, facts: KernelFacts = COMPLETE, **options: bool) -> ProbePlan:
    found = probe_plan(name, facts, **options)
    assert isinstance(found, ProbePlan), found
    return found


def reasons(name: PlanName, facts: KernelFacts) -> str:
    found = probe_plan(name, facts)
    assert isinstance(found, NoPlan), found
    return "; ".join(found.reasons)


@pytest.mark.parametrize("name", PLAN_NAMES)
def test_a_complete_kernel_has_every_plan(name: PlanName) -> None:
    found = plan(name)
    assert found.defines[f"PLAN_{name.upper()}"] == 1
    assert found.defines["PAGE_SIZE"] == 1 << found.defines["PAGE_SHIFT"]


def test_kprobe_attaches_the_return_before_the_entry() -> None:
    assert plan("kprobe").hooks[:2] == (
        Hook("kretprobe", "do_wp_page", "do_wp_page_return"),
        Hook("kprobe", "do_wp_page", "do_wp_page_enter"),
    )


def test_wp_page_copy_is_checked_only_on_request_and_where_it_exists() -> None:
    inlined = replace(COMPLETE, symbols=COMPLETE.symbols - {"wp_page_copy"})
    assert "CROSS_CHECK" not in plan("kprobe").defines
    assert plan("kprobe", cross_check=True).defines["CROSS_CHECK"] == 1
    assert "CROSS_CHECK" not in plan("kprobe", inlined, cross_check=True).defines
    assert "CROSS_CHECK" not in plan("fentry", cross_check=True).defines


@pytest.mark.parametrize(
    ("name", "lacking", "reason"),
    [
        ("kprobe", {"kprobes": False}, "CONFIG_KPROBES"),
        ("fentry", {"fexit_refused": "loading: EPERM"}, "loading: EPERM"),
        ("kprobe", {"symbols": frozenset({"finish_fault"})}, "no function do_wp_page()"),
        ("fentry", {"tracepoints": frozenset()}, "no tracepoint page_fault_user"),
        ("tracepoint", {"tracepoints": frozenset()}, "no tracepoint mm_page_alloc"),
        ("tracepoint", {"machine": "riscv64"}, "riscv64"),
        ("kprobe", {"offsets": {}}, "BTF has no member for VMF_PTE"),
        ("kprobe", {"parameters": {"do_wp_page": ("mm", "vmf")}}, "does not take vmf first"),
    ],
)
def test_each_lack_is_named(name: PlanName, lacking: dict[str, object], reason: str) -> None:
    assert reason in reasons(name, replace(COMPLETE, **lacking))  # type: ignore[arg-type]


def test_the_tracepoint_plan_needs_no_vm_fault() -> None:
    offsets = {m: o for m, o in COMPLETE.offsets.items() if not m.startswith("VMF_")}
    plan("tracepoint", replace(COMPLETE, offsets=offsets, kprobes=False))


def test_the_tracepoint_plan_states_what_it_cannot_see() -> None:
    assert plan("tracepoint").unseen == {FaultKind.SHARED, FaultKind.UNCHANGED}
    assert plan("kprobe").unseen == frozenset()
    assert not any("thread ids" in spot for spot in plan("tracepoint").blind_spots)
    big = replace(COMPLETE, pid_max=1 << 22)
    assert any("thread ids" in spot for spot in plan("tracepoint", big).blind_spots)


def test_without_a_maple_tree_file_copies_are_unseen() -> None:
    offsets = {m: o for m, o in COMPLETE.offsets.items() if m != "ARANGE_SLOT"}
    found = plan("tracepoint", replace(COMPLETE, offsets=offsets))
    assert FaultKind.FILE_COPIED in found.unseen
    assert "MM_MT" not in found.defines


def test_pivots_are_counted_from_the_layout() -> None:
    offsets = {**COMPLETE.offsets, "RANGE_PIVOT": 8, "ARANGE_SLOT": 80}
    found = plan("tracepoint", replace(COMPLETE, offsets=offsets))
    assert found.defines["ARANGE_PIVOTS"] == 9
