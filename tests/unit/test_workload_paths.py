"""What the paths' workloads expect, by what the kernel has; and what they read to find that out."""

from __future__ import annotations

import gzip
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowtrace.frames.words import address_of
from cowtrace.model import Origin, Source
from cowtrace.workloads import calls, features
from cowtrace.workloads.oracles import proc_files
from cowtrace.workloads.oracles.proc_files import compound_pages
from cowtrace.workloads.outcome import expected
from cowtrace.workloads.paths import pins_hugetlb, thp_sizes
from cowtrace.workloads.region import HUGE_BYTES, PAGE_BYTES
from cowtrace.workloads.workload import WORKLOADS

PAGES = 23
FOLIOS = 508  # 4 + 8 + ... + 256
MM_IDS = {"_mm_id_mapcount"}  # 6.15: a folio knows its last holder
WALKS = {"break_ksm_pmd_entry"}  # 6.2
SWAP_TABLES = {"folio_put_swap"}  # 7.0
small_pages = pytest.mark.skipif(PAGE_BYTES != 4096, reason="the numbers are those of x86-64")

# Written out by hand: (workload, what the kernel has, {role: counts that are not 0}).
Row = tuple[str, set[str], dict[str, dict[str, int]]]
TABLE: list[Row] = [
    ("mthp-partly-shared", set(), {"parent": {"copied": 493}, "child": {"copied": 493}}),
    ("mthp-partly-shared", MM_IDS, {"parent": {"copied": 493}, "child": {"copied": 493}}),
    ("mthp-then-alone", set(), {"parent": {"copied": FOLIOS}, "child": {}}),
    ("mthp-then-alone", MM_IDS, {"parent": {"reused": FOLIOS}, "child": {}}),
    ("mthp-child-copies-all", set(), {"parent": {"copied": FOLIOS}, "child": {"copied": FOLIOS}}),
    ("mthp-child-copies-all", MM_IDS, {"parent": {"reused": FOLIOS}, "child": {"copied": FOLIOS}}),
    ("mthp-one-page-left", MM_IDS, {"parent": {"copied": 7}, "child": {}}),
    ("mthp-third-sharer-left", MM_IDS, {"parent": {}, "child": {}, "sibling": {"copied": FOLIOS}}),
    ("thp-split-then-alone", set(), {"parent": {"copied": PAGES}, "child": {}}),
    ("thp-split-then-alone", MM_IDS, {"parent": {"reused": PAGES}, "child": {}}),
    ("thp-except-advised", set(), {"parent": {}, "child": {"copied": 251 + 257}}),
    ("swap-read-then-write", set(), {"parent": {"reused": PAGES}, "child": {"copied": PAGES}}),
    (
        "swap-read-then-write",
        {"reuse_swap_page"},
        {"parent": {"copied": PAGES}, "child": {"copied": PAGES}},
    ),
    ("swap-then-alone", set(), {"parent": {}, "child": {}}),
    ("swap-then-alone", SWAP_TABLES, {"parent": {"reused": PAGES}, "child": {}}),
    ("swap-parent-first", set(), {"parent": {"copied": PAGES}, "child": {}}),
    ("swap-parent-first", SWAP_TABLES, {"parent": {"copied": PAGES}, "child": {"reused": PAGES}}),
    (
        "memcg-reclaim-shared",
        SWAP_TABLES,
        {"parent": {}, "child": {"reused": PAGES}, "grandchild": {"copied": PAGES}},
    ),
    ("ksm-unmerge", set(), {"parent": {"copied": PAGES}}),
    ("ksm-unmerge", WALKS, {"parent": {"copied": PAGES, "reused": PAGES}}),
    ("ksm-unmerge-all", WALKS, {"parent": {"copied": PAGES}, "child": {"copied": PAGES}}),
    ("ksm-process", set(), {"parent": {"copied": PAGES}, "child": {"copied": PAGES}}),
]


@small_pages
@pytest.mark.parametrize(("name", "has", "wanted"), TABLE)
def test_expected_by_what_the_kernel_has(
    name: str, has: set[str], wanted: dict[str, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for found in ("has_type", "has_function"):
        monkeypatch.setattr(features, found, has.__contains__)
    made = {
        one.role: {
            kind: getattr(one, kind)
            for kind in ("copied", "file_copied", "zero_filled", "reused", "shared")
            if getattr(one, kind)
        }
        for one in WORKLOADS[name].expected(PAGES)
    }
    assert made == wanted


@pytest.mark.parametrize(
    ("by_fork", "parent", "child"),
    [(True, {"copied": PAGES}, {}), (False, {"copied": PAGES}, {"reused": PAGES})],
)
def test_a_pinned_hugetlb_page_is_copied_by_fork_or_by_the_next_write(
    by_fork: bool, parent: dict[str, int], child: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins_hugetlb, "_fork_copies", lambda: by_fork)
    made = WORKLOADS["hugetlb-pinned-fork"].expected(PAGES)
    wanted = expected("parent", **parent), expected("child", **child)
    for one, other in zip(made, wanted, strict=True):
        assert (one.copied, one.reused) == (other.copied, other.reused)
    (row,) = made[0].rows
    assert (row.source, row.bytes) == (Source.HUGETLB, PAGES * HUGE_BYTES)
    assert (row.origin is Origin.FORK) is by_fork


@small_pages
def test_folios_of_each_size_follow_one_another() -> None:
    assert thp_sizes.SIZES == (4, 8, 16, 32, 64, 128, 256)
    assert thp_sizes._first_pages(thp_sizes.SIZES) == tuple(range(FOLIOS))


def test_a_prime_number_of_each_folios_pages_is_written() -> None:
    for size, some in zip(thp_sizes.SIZES, thp_sizes._SOME, strict=True):
        assert size // 2 < some < size
        assert all(some % divisor for divisor in range(2, some))


def test_memory_that_is_mapped_anew_is_untouched() -> None:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, 3 * PAGE_BYTES, flags=flags) as memory:
        memory[::PAGE_BYTES] = b"abc"
        calls.map_anew(address_of(memory) + PAGE_BYTES, PAGE_BYTES)
        assert memory[::PAGE_BYTES] == b"a\0c"


HEAD, TAIL = 1 << 15, 1 << 16


@pytest.mark.parametrize(
    ("frames", "flags", "pages"),
    [
        ([8, 9, 10, 11], [HEAD, TAIL, TAIL, TAIL], 4),
        ([8, 9, 10, 11], [HEAD, TAIL, HEAD, TAIL], 2),  # the next folio
        ([8, 9, 11, 12], [HEAD, TAIL, TAIL, TAIL], 2),  # a page of another one
        ([9, 10], [TAIL, TAIL], 0),  # begins in the middle
        ([8, 9], [0, 0], 0),
        ([], [], 0),
    ],
)
def test_pages_of_one_large_folio(
    frames: list[int], flags: list[int], pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict(zip(frames, flags, strict=True))
    monkeypatch.setattr(proc_files, "_page_flags", lambda wanted: map(known.__getitem__, wanted))
    assert compound_pages(frames) == pages


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the kernel's configuration is looked for, in this order: config.gz, config-RELEASE."""
    places = (str(tmp_path / "config.gz"), str(tmp_path / "config-{}"))
    monkeypatch.setattr(features, "_CONFIGS", places)
    features.config.cache_clear()
    yield tmp_path
    features.config.cache_clear()


TEXT = '# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C="a=b"\n'


def test_the_kernels_configuration(configs: Path) -> None:
    (configs / f"config-{os.uname().release}").write_text(TEXT)
    assert [features.config(name) for name in "ABC"] == ["n", "y", '"a=b"']


def test_what_the_kernel_itself_has_comes_first(configs: Path) -> None:
    (configs / f"config-{os.uname().release}").write_text("CONFIG_A=y\n")
    (configs / "config.gz").write_bytes(gzip.compress(TEXT.encode()))
    assert features.config("A") == "n"


def test_a_hidden_configuration_is_unknown(configs: Path) -> None:
    assert features.config("A") is None
