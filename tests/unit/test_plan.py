"""Kernel facts -> plans: by symbol and member, and each lack is named."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from cowtrace.kernel.addresses import VARIABLES
from cowtrace.kernel.choice import how_it_counts, preference, why_first
from cowtrace.kernel.facts import (
    ENUMERATORS,
    FUNCTIONS,
    TRACEPOINTS,
    TRAMPOLINES,
    KernelFacts,
    _offsets,
)
from cowtrace.kernel.hooks import Hook, pair
from cowtrace.kernel.members import MEMBERS
from cowtrace.kernel.memory_layout import UNKNOWN, MemoryLayout
from cowtrace.kernel.options import NO_OPTIONS, Options
from cowtrace.kernel.plan import PLAN_NAMES, NoPlan, PlanName, ProbePlan, probe_plan
from cowtrace.kernel.trial_programs import Cast
from cowtrace.model import FaultKind

COMPLETE = KernelFacts(
    release="6.1.0-test",
    machine="x86_64",
    page_bytes=4096,
    offsets={macro: 8 * i for i, macro in enumerate((*MEMBERS, "PAGE_STRUCT_BYTES"))},
    constants={macro: value or 16 for macro, (_, value) in ENUMERATORS.items()},
    parameters=dict.fromkeys(FUNCTIONS, ("vmf",)),
    symbols={name: 0xFFFFFFFF81000000 + i for i, name in enumerate((*FUNCTIONS, *VARIABLES))},
    layout=MemoryLayout(1 << 63, 3 << 62, 39, (1 << 52) - 4096, 23),
    tracepoints=frozenset(TRACEPOINTS),
    kprobes_refused=None,
    fexit_refused=None,
    trampolines=frozenset(),
    cast=None,
    preemptible=False,
    real_time=False,
    pid_max=32768,
    cpus=2,
)


REFUSED = "opening a kprobe: Permission denied"


def plan(name: PlanName, facts: KernelFacts = COMPLETE, options: Options = NO_OPTIONS) -> ProbePlan:
    found = probe_plan(name, facts, options)
    assert isinstance(found, ProbePlan), found
    return found


def without(symbol: str, **changes: object) -> KernelFacts:
    symbols = {name: at for name, at in COMPLETE.symbols.items() if name != symbol}
    return replace(COMPLETE, symbols=symbols, **changes)  # type: ignore[arg-type]


def reasons(name: PlanName, facts: KernelFacts) -> str:
    found = probe_plan(name, facts)
    assert isinstance(found, NoPlan), found
    return "; ".join(found.reasons)


def test_programs_get_the_cast_where_this_kernel_has_one() -> None:
    assert plan("kprobe").defines.keys() & {"RDONLY_CAST", "WORDS"} == set()
    for name in PLAN_NAMES:
        defines = plan(name, replace(COMPLETE, cast=Cast(function=65477, words=162))).defines
        assert (defines["RDONLY_CAST"], defines["WORDS"]) == (65477, 162)


@pytest.mark.parametrize("name", PLAN_NAMES)
def test_a_complete_kernel_has_every_plan(name: PlanName) -> None:
    found = plan(name)
    assert found.defines[f"PLAN_{name.upper()}"] == 1
    assert found.defines["PAGE_SIZE"] == 1 << found.defines["PAGE_SHIFT"]


def test_kprobe_attaches_the_return_before_the_entry() -> None:
    assert plan("kprobe", COMPLETE, Options(outcomes=True)).hooks[-2:] == (
        Hook("kretprobe", "do_wp_page", "do_wp_page_return"),
        Hook("kprobe", "do_wp_page", "do_wp_page_enter"),
    )


WITH_TRAMPOLINES = replace(
    COMPLETE,
    trampolines=frozenset(TRAMPOLINES),
    parameters={
        **COMPLETE.parameters,
        "flush_tlb_mm_range": ("mm", "start", "end", "stride_shift", "freed_tables"),
        "ptep_set_access_flags": ("vma", "address", "ptep", "entry", "dirty"),
        "__access_remote_vm": ("mm", "addr", "buf", "len", "gup_flags"),
        "ksm_madvise": ("vma", "start", "end", "advice", "vm_flags"),
    },
)


FORKS = Options(details=frozenset({"generation"}))


def test_forks_are_timed_only_where_they_are_shown() -> None:
    for name in PLAN_NAMES:
        assert "FORK_TIMES" not in plan(name, WITH_TRAMPOLINES, Options(samples=True)).defines
    found = plan("kprobe", WITH_TRAMPOLINES, FORKS)
    entries = [hook.target for hook in found.hooks if hook.target in FUNCTIONS[-3:]]
    assert entries == ["kernel_clone", "uprobe_dup_mmap", "uprobe_end_dup_mmap"]
    assert {"FORK_TIMES", "FORK_LOCKS"} <= found.defines.keys()
    found = plan("fentry", WITH_TRAMPOLINES, FORKS)
    assert {"FORK_TIMES", "FORK_LOCKS"} <= found.defines.keys()
    assert "kernel_clone" not in {hook.target for hook in found.hooks}


def test_a_kernel_without_a_probe_for_it_does_not_time_forks() -> None:
    assert "FORK_LOCKS" not in plan("kprobe", without("uprobe_dup_mmap"), FORKS).defines
    found = plan("kprobe", without("kernel_clone"), FORKS)
    assert not {"FORK_TIMES", "FORK_LOCKS"} & found.defines.keys()
    assert "forks are not timed" in found.blind_spots
    assert "forks are not timed" not in plan("kprobe", without("kernel_clone")).blind_spots
    assert "FORK_TIMES" not in plan("fentry", COMPLETE, FORKS).defines  # it has no trampolines


def test_the_tracepoint_plan_times_forks_from_the_new_mms_memory_on() -> None:
    """Before 6.2 a new mm takes none there."""
    assert "FORK_TIMES" not in plan("tracepoint", COMPLETE, FORKS).defines
    counted = {**COMPLETE.offsets, "PERCPU_COUNTER_BYTES": 40}
    found = plan("tracepoint", replace(COMPLETE, offsets=counted), FORKS)
    assert "FORK_TIMES" in found.defines
    assert "FORK_LOCKS" not in found.defines
    assert any("lower bound" in spot for spot in found.blind_spots)


@pytest.mark.parametrize("name", ["fentry", "kprobe"])
@pytest.mark.parametrize(
    ("options", "where_it_changes"),
    [
        (NO_OPTIONS, {"fentry", "kprobe"}),
        (Options(details=frozenset({"generation", "mapping"}), events=True), {"fentry", "kprobe"}),
        (Options(details=frozenset({"stack"})), {"kprobe"}),
        (Options(samples=True), {"kprobe"}),
        (Options(details=frozenset({"latency"})), set()),
        (Options(outcomes=True), set()),
        (Options(cross_check=True), set()),
    ],
)
def test_faults_are_counted_where_the_entry_changes_unless_their_end_is_needed(
    name: PlanName, options: Options, where_it_changes: set[str]
) -> None:
    at_change = name in where_it_changes
    found = plan(name, WITH_TRAMPOLINES, options)
    assert ("PTE_CHANGES" in found.defines) == at_change
    assert found.unseen == ({FaultKind.UNCHANGED, FaultKind.FAILED} if at_change else set())
    assert ("NO_ACCESS" in found.defines) == (at_change and name == "fentry")
    if name == "kprobe":
        functions = {hook.target for hook in found.hooks}
        assert ("ptep_clear_flush" in functions) == at_change
        assert ("do_wp_page" in functions) != at_change


@pytest.mark.parametrize(
    "lacking",
    [
        {},
        {"layout": UNKNOWN},
        {"trampolines": frozenset(TRAMPOLINES) - {"ksm_madvise"}},
        {"offsets": {m: at for m, at in COMPLETE.offsets.items() if m != "MM_MT"}},
    ],
)
def test_copies_without_access_rights_that_fentry_does_not_see_are_said(
    lacking: dict[str, object],
) -> None:
    found = plan("fentry", replace(WITH_TRAMPOLINES, **lacking))  # type: ignore[arg-type]
    (spot,) = (spot for spot in found.blind_spots if "PROT_NONE" in spot)
    assert ("another process writes" in spot) == bool(lacking)
    assert ("NO_ACCESS" in found.defines) != bool(lacking)


@pytest.mark.parametrize(("copy", "variant", "code"), [(1, 2, 1), (None, 2, 2), (None, None, 3)])
def test_copies_are_told_by_the_function_that_clears_the_entry(
    copy: int | None, variant: int | None, code: int
) -> None:
    there = {"wp_page_copy": copy, "wp_page_copy.*": variant, "do_wp_page": 3}
    others = {n: at for n, at in COMPLETE.symbols.items() if n not in there}
    symbols = others | {name: at for name, at in there.items() if at}
    found = plan("kprobe", replace(COMPLETE, symbols=symbols)).addresses[-3]
    assert found == code + 16  # behind what ftrace patches


def test_a_hidden_address_of_the_function_that_clears_the_entry_stays_0() -> None:
    hidden = dict.fromkeys(COMPLETE.symbols, 0)  # kernel.kptr_restrict
    assert plan("fentry", replace(WITH_TRAMPOLINES, symbols=hidden)).addresses[-3] == 0


@pytest.mark.parametrize(
    "name", ["arch_rethook_trampoline", "__kretprobe_trampoline", "kretprobe_trampoline"]
)
def test_returns_that_others_replace_have_an_address(name: str) -> None:
    assert plan("kprobe", COMPLETE).addresses[-2:] == (0, 0)
    symbols = {**COMPLETE.symbols, name: 5, "return_to_handler": 6}
    assert plan("kprobe", replace(COMPLETE, symbols=symbols)).addresses[-2:] == (5, 6)


@pytest.mark.parametrize("name", ["fentry", "kprobe"])
@pytest.mark.parametrize(
    "lacking",
    [
        {"symbols": {**COMPLETE.symbols, "do_wp_page": 0}},  # addresses are hidden
        {"machine": "aarch64"},
        {"symbols": without("ptep_clear_flush").symbols, "trampolines": frozenset()},
        {
            "symbols": without("ptep_set_access_flags").symbols,
            "parameters": dict.fromkeys(FUNCTIONS, ("vmf",)),
        },
    ],
)
def test_elsewhere_faults_are_counted_at_their_end(
    name: PlanName, lacking: dict[str, object]
) -> None:
    found = plan(name, replace(WITH_TRAMPOLINES, **lacking))  # type: ignore[arg-type]
    assert "PTE_CHANGES" not in found.defines
    assert found.unseen == set()


def test_wp_page_copy_is_checked_only_on_request_and_where_it_exists() -> None:
    inlined = without("wp_page_copy")
    assert "CROSS_CHECK" not in plan("kprobe").defines
    assert plan("kprobe", COMPLETE, Options(cross_check=True)).defines["CROSS_CHECK"] == 1
    assert "CROSS_CHECK" not in plan("kprobe", inlined, Options(cross_check=True)).defines
    assert "CROSS_CHECK" not in plan("fentry", COMPLETE, Options(cross_check=True)).defines


@pytest.mark.parametrize(
    ("name", "lacking", "reason"),
    [
        ("kprobe", {"kprobes_refused": "opening: EACCES"}, "opening: EACCES"),
        ("fentry", {"fexit_refused": "loading: EPERM"}, "loading: EPERM"),
        ("kprobe", {"symbols": {"finish_fault": 1}}, "no function do_wp_page()"),
        ("fentry", {"tracepoints": frozenset()}, "no tracepoint sched_process_fork"),
        ("tracepoint", {"tracepoints": frozenset()}, "no tracepoint page_fault_user"),
        ("tracepoint", {"tracepoints": frozenset()}, "no tracepoint mm_page_alloc"),
        ("tracepoint", {"machine": "ppc64le"}, "ppc64le"),
        ("kprobe", {"offsets": {}}, "BTF has no member for VMF_PTE"),
        ("kprobe", {"parameters": {"do_wp_page": ("mm", "vmf")}}, "does not take vmf first"),
    ],
)
def test_each_lack_is_named(name: PlanName, lacking: dict[str, object], reason: str) -> None:
    assert reason in reasons(name, replace(COMPLETE, **lacking))  # type: ignore[arg-type]


def test_the_tracepoint_plan_needs_no_vm_fault() -> None:
    offsets = {m: o for m, o in COMPLETE.offsets.items() if not m.startswith("VMF_")}
    plan("tracepoint", replace(COMPLETE, offsets=offsets, kprobes_refused=REFUSED))


@pytest.mark.parametrize("name", ["fentry", "kprobe"])
def test_arm64_has_no_totals_of_page_faults_and_no_tracepoint_plan(name: PlanName) -> None:
    left = COMPLETE.tracepoints - {"page_fault_user", "page_fault_kernel"}
    arm64 = replace(COMPLETE, machine="aarch64", page_bytes=16384, tracepoints=left)
    found = plan(name, arm64, Options(page_faults=True)).defines
    assert "PAGE_FAULTS" not in found
    assert (found["PAGE_SIZE"], found["PAGE_SHIFT"]) == (16384, 14)
    assert found["PMD_SIZE"] == 32 << 20
    assert reasons("tracepoint", arm64).startswith("no tracepoint page_fault_user")


def test_the_tracepoint_plan_states_what_it_cannot_see() -> None:
    assert plan("tracepoint").unseen == {FaultKind.UNCHANGED}
    no_table = plan("tracepoint", replace(COMPLETE, layout=UNKNOWN))
    assert no_table.unseen == {FaultKind.SHARED, FaultKind.UNCHANGED}
    assert "page table" in how_it_counts("tracepoint", COMPLETE)
    assert "page table" not in how_it_counts("tracepoint", replace(COMPLETE, layout=UNKNOWN))
    assert plan("kprobe").unseen == {FaultKind.UNCHANGED, FaultKind.FAILED}
    assert not any("thread ids" in spot for spot in plan("tracepoint").blind_spots)
    big = replace(COMPLETE, pid_max=1 << 22)
    assert any("thread ids" in spot for spot in plan("tracepoint", big).blind_spots)


def test_without_a_maple_tree_file_copies_are_unseen() -> None:
    offsets = {m: o for m, o in COMPLETE.offsets.items() if m != "ARANGE_SLOT"}
    found = plan("tracepoint", replace(COMPLETE, offsets=offsets))
    assert FaultKind.FILE_COPIED in found.unseen
    assert "MM_MT" not in found.defines


def test_flushes_of_the_tlb_are_timed_where_a_copy_makes_them_by_that_function() -> None:
    """riscv64 has a function of the same name and arguments; a copy calls flush_tlb_page()."""
    timed = Options(details=frozenset({"latency", "tlb-flush"}))
    assert "tlb-flush" in plan("fentry", WITH_TRAMPOLINES, timed).details
    riscv64 = replace(WITH_TRAMPOLINES, machine="riscv64")
    assert plan("fentry", riscv64, timed).details == {"latency"}


@pytest.mark.parametrize(
    ("function", "parameters", "shape"),
    [
        ("hugetlb_wp", ("vmf",), 1),  # 6.12.117
        ("hugetlb_wp", ("pagecache_folio", "vmf"), 4),  # 6.12.95
        ("hugetlb_wp", ("mm", "vma", "address", "ptep", "flags", "pagecache_page", "ptl"), 3),
        ("hugetlb_cow", ("mm", "vma", "address", "ptep", "pagecache_page", "ptl"), 2),  # 5.10
        ("hugetlb_wp", ("mm", "something", "else"), None),
    ],
)
def test_hugetlb_arguments_are_found_by_name(
    function: str, parameters: tuple[str, ...], shape: int | None
) -> None:
    other = {"hugetlb_wp": "hugetlb_cow", "hugetlb_cow": "hugetlb_wp"}[function]
    facts = without(other, parameters={**COMPLETE.parameters, function: parameters})
    for name in ("kprobe", "fentry"):
        found = plan(name, facts)
        assert found.defines.get("HUGETLB_WP") == shape
        assert (set(pair(function, "hugetlb_wp")) <= set(found.hooks)) == bool(shape)
        assert any("hugetlb" in spot for spot in found.blind_spots) != bool(shape)


def test_what_fork_copies_is_counted_on_request() -> None:
    assert "FORK_COPIES" not in plan("fentry").defines
    asked = plan("fentry", without("folio_add_new_anon_rmap"), Options(fork_copies=True))
    assert Hook("kprobe", "page_add_new_anon_rmap", "add_new_anon_rmap_enter") in asked.hooks
    assert "FORK_COPIES" not in plan("tracepoint", COMPLETE, Options(fork_copies=True)).defines


@pytest.mark.parametrize(
    ("has", "missing", "seen"),
    [
        ("hugetlb_add_new_anon_rmap", (), True),
        ("hugepage_add_new_anon_rmap", ("hugetlb_add_new_anon_rmap",), True),  # before 6.8
        ("", ("hugetlb_add_new_anon_rmap", "hugepage_add_new_anon_rmap"), False),
        # Their size is not known:
        ("hugetlb_add_new_anon_rmap", ("hugetlb_wp", "hugetlb_cow"), False),
    ],
)
def test_hugetlb_pages_that_fork_copies_are_counted_too(
    has: str, missing: tuple[str, ...], seen: bool
) -> None:
    symbols = {name: at for name, at in COMPLETE.symbols.items() if name not in missing}
    found = plan("kprobe", replace(COMPLETE, symbols=symbols), Options(fork_copies=True))
    assert (Hook("kprobe", has, "hugetlb_add_new_anon_rmap_enter") in found.hooks) is seen
    assert ("HUGETLB_FORK_COPIES" in found.defines) is seen
    assert any("hugetlb pages that fork" in spot for spot in found.blind_spots) is not seen


def test_without_kprobes_the_fentry_plan_has_no_hooks_but_its_own() -> None:
    found = plan("fentry", replace(COMPLETE, kprobes_refused=REFUSED), Options(fork_copies=True))
    assert found.hooks == ()
    assert "HUGE_PAGES" not in found.defines
    missing = [spot for spot in found.blind_spots if spot.endswith(REFUSED)]
    assert len(missing) == 2  # hugetlb, transparent huge pages
    assert all("not seen" in spot for spot in missing)


@pytest.mark.parametrize("refused", [None, "opening a kprobe: EACCES"])
def test_huge_pages_are_watched_by_trampolines_where_they_can_be(refused: str | None) -> None:
    both = frozenset({"do_huge_pmd_wp_page", "hugetlb_wp"})
    facts = replace(COMPLETE, trampolines=both, kprobes_refused=refused)
    found = plan("fentry", facts)
    assert found.hooks == ()
    assert (found.defines["HUGE_PMD_FENTRY"], found.defines["HUGETLB_FENTRY"]) == (1, 1)
    assert not any("huge" in spot for spot in found.blind_spots)
    if refused is None:
        assert "HUGETLB_FENTRY" not in plan("kprobe", facts).defines


def test_a_function_without_a_trampoline_is_watched_by_kprobes() -> None:
    # hugetlb_wp() of 6.1 has seven arguments.
    facts = replace(COMPLETE, trampolines=frozenset({"do_huge_pmd_wp_page"}))
    assert plan("fentry", facts).hooks == pair("hugetlb_wp")
    found = plan("fentry", replace(facts, kprobes_refused=REFUSED))
    assert found.hooks == ()
    assert [spot for spot in found.blind_spots if REFUSED in spot] == [
        f"copies of hugetlb pages are not seen: {REFUSED}"
    ]


def test_auto_takes_the_cheapest_plan_that_loses_nothing() -> None:
    preemptible = replace(COMPLETE, preemptible=True)
    assert preference(COMPLETE)[0] == "fentry"
    assert preference(preemptible)[0] == "kprobe"
    for name in PLAN_NAMES:
        assert any("preemptible" in spot for spot in plan(name, preemptible).blind_spots)
        assert not any("preemptible" in spot for spot in plan(name).blind_spots)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (WITH_TRAMPOLINES, "under the page table's lock"),
        (replace(COMPLETE, machine="aarch64"), "on aarch64"),
        (replace(COMPLETE, symbols=dict.fromkeys(COMPLETE.symbols, 0)), "kernel.kptr_restrict"),
        (COMPLETE, "take no such probe"),  # before 6.1
    ],
)
def test_it_is_said_where_a_plan_counts(facts: KernelFacts, said: str) -> None:
    assert said in how_it_counts("fentry", facts)


@pytest.mark.parametrize(
    ("name", "refused", "said"),
    [
        ("fentry", False, "costs the least per fault"),
        ("kprobe", False, "loses faults"),
        ("tracepoint", True, "do not run"),
    ],
)
def test_it_is_said_why_auto_takes_a_plan(name: PlanName, refused: bool, said: str) -> None:
    assert said in why_first(name, refused)


@pytest.mark.parametrize("name", PLAN_NAMES)
def test_a_program_in_an_interrupt_sees_no_fault(name: PlanName) -> None:
    preemptible = replace(COMPLETE, preemptible=True)
    assert plan(name, preemptible).misses_faults
    assert plan(name).misses_faults is (
        name == "kprobe"
    )  # for its page-fault tracepoints, which -v takes


def test_what_is_off_is_compiled_out() -> None:
    for name in PLAN_NAMES:
        bare = plan(name).defines
        assert not {"PAGE_FAULTS", "REGION_START", "CROSS_CHECK", "FORK_COPIES"} & bare.keys()
    asked = plan("fentry", COMPLETE, Options(region=(4096, 8192), page_faults=True)).defines
    assert (asked["REGION_START"], asked["REGION_END"], asked["PAGE_FAULTS"]) == (4096, 8192, 1)


@pytest.mark.parametrize(
    ("options", "cached"),
    [
        (NO_OPTIONS, False),
        (Options(details=frozenset({"generation"})), True),
        (Options(details=frozenset({"generation", "mapping"}), samples=True), True),
        (Options(events=True), True),
        (Options(details=frozenset({"mapping", "stack"})), False),
        (Options(details=frozenset({"latency"})), False),
    ],
)
def test_sums_in_detail_are_cached_if_a_cell_tells_them_apart(
    options: Options, cached: bool
) -> None:
    for name in PLAN_NAMES:
        found = plan(name, COMPLETE, options).defines
        assert ("DETAIL_CELLS" in found) == (cached and name != "tracepoint")


def test_cells_are_used_where_programs_cannot_take_turns() -> None:
    preemptible = replace(COMPLETE, preemptible=True)
    for name in PLAN_NAMES:
        assert "CELLS" in plan(name).defines
        assert "PREEMPTIBLE" not in plan(name).defines
        cells = "CELLS" in plan(name, preemptible).defines
        assert cells == (name == "kprobe")  # runs with preemption off everywhere
        assert cells != ("PREEMPTIBLE" in plan(name, preemptible).defines)
    under_lock = replace(WITH_TRAMPOLINES, preemptible=True)
    assert plan("fentry", under_lock).defines.keys() >= {"CELLS", "PREEMPTIBLE"}
    ends = plan("fentry", under_lock, Options(outcomes=True)).defines
    assert "CELLS" not in ends
    assert "CELLS" not in plan("fentry", replace(under_lock, real_time=True)).defines


def lacking(*macros: str) -> KernelFacts:
    """A kernel whose BTF lacks these members."""
    return replace(
        COMPLETE, offsets={name: at for name, at in COMPLETE.offsets.items() if name not in macros}
    )


def test_huge_pages_are_counted_where_their_entry_is_known() -> None:
    target = "do_huge_pmd_wp_page"
    assert target in {hook.target for hook in plan("kprobe").hooks}
    assert target not in {hook.target for hook in plan("kprobe", lacking("VMF_PMD")).hooks}


def test_every_error_of_a_fault_is_a_failure() -> None:
    bits = {
        name: 1 << at for at, name in enumerate(n for n in ENUMERATORS if n.startswith("VM_FAULT_"))
    }
    facts = replace(COMPLETE, constants={**COMPLETE.constants, **bits})
    errors = ("OOM", "SIGBUS", "HWPOISON", "HWPOISON_LARGE", "SIGSEGV", "FALLBACK")
    expected = sum(bits[f"VM_FAULT_{error}"] for error in errors)
    assert plan("kprobe", facts).defines["VM_FAULT_ERROR"] == expected


def test_generations_need_the_tracepoint_of_exec() -> None:
    options = Options(details=frozenset({"generation"}))
    facts = replace(COMPLETE, tracepoints=COMPLETE.tracepoints - {"sched_process_exec"})
    assert plan("kprobe", COMPLETE, options).details == {"generation"}
    assert plan("kprobe", facts, options).details == frozenset()


def test_samples_need_generations() -> None:
    """A sample of a process that has ended is named by the parent it was forked from."""
    assert "GENERATIONS" in plan("kprobe", COMPLETE, Options(samples=True)).defines
    assert "GENERATIONS" not in plan("kprobe").defines


def test_the_tracepoint_plan_finds_mappings_in_a_maple_tree_only() -> None:
    options = Options(details=frozenset({"mapping"}))
    facts = lacking("MM_MT")
    assert plan("tracepoint", COMPLETE, options).details == {"mapping"}
    assert plan("tracepoint", facts, options).details == frozenset()
    assert plan("kprobe", facts, options).details == {"mapping"}


@pytest.mark.parametrize(
    ("sizes", "found"), [((None, 40), 40), ((32, 40), None), ((None, None), None)]
)
def test_resident_pages_are_per_cpu_counters_where_mm_has_no_plain_numbers(
    sizes: tuple[int | None, int | None], found: int | None
) -> None:
    known = dict(zip(("mm_rss_stat", "percpu_counter"), sizes, strict=True))
    btf: Any = SimpleNamespace(size=known.get, offset=lambda structure, name: None)
    assert _offsets(btf).get("PERCPU_COUNTER_BYTES") == found
