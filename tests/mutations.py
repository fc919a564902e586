"""Break the classification in one place each, and name the workload whose check must notice it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from cowtrace import tracer
from cowtrace.shipped import bpf_dir
from cowtrace.tracer import loader
from cowtrace.verify.check import Check
from cowtrace.verify.groups import Group
from cowtrace.verify.session import checks
from cowtrace.workloads.region import REGION_END, REGION_START
from cowtrace.workloads.workload import WORKLOADS

PAGES = 127


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of one file of bpf/."""

    name: str  # what goes wrong
    file: str
    old: str  # occurs exactly once
    new: str
    caught_by: str  # the workload
    pages: int = PAGES

    def apply(self, folder: Path) -> None:
        """Change the file in that copy of bpf/; fail unless `old` occurs exactly once."""
        path = folder / self.file
        text = path.read_text()
        found = text.count(self.old)
        if found != 1:
            pytest.fail(f"{self.name}: {found} times in {self.file}, not once:\n{self.old}")
        path.write_text(text.replace(self.old, self.new))


# Plans that see the end of a fault: bpf/classify.h and what stands on it.
OF_FAULT_ENDS = (
    Mutation(
        "the upper bits of the frame alone are compared",
        "classify.h",
        "return !((wp->before ^ wp->after) & PTE_FRAME_MASK);",
        "return !((wp->before ^ wp->after) & PTE_FRAME_MASK & PTE_FRAME_MASK << 24);",
        "fork-child-writes",
    ),
    Mutation(
        "every fault that is entered counts as a copy",
        "classify.h",
        "return wp->after & PTE_WRITABLE ? REUSED : UNCHANGED;",
        "return COPIED;",
        "fork-both-write",
    ),
    Mutation(
        "the zero page is not distinguished from a page with data",
        "classify.h",
        "if (page || vm_flags & VM_PFNMAP || !is_zero_entry(before))",
        "if (1)",
        "zero-page",
    ),
    Mutation(
        "the first write to shared memory counts as a copy",
        "finish_fault.h",
        "key.kind = private ? FILE_COPIED : SHARED;",
        "key.kind = FILE_COPIED;",
        "shared-writes",
    ),
    Mutation(
        "finish_fault() is not counted",
        "finish_fault.h",
        "if (!private && !(vm_flags & VM_SHARED))\n\t\treturn;",
        "return;",
        "private-file-first-write",
    ),
    Mutation(
        "a thread that lost the race for a page counts as a copy",
        "lost_race.h",
        "if (entered && *made >= entered)",
        "if (0)",
        "threads-race",
        pages=4001,  # on one emulated CPU, threads meet in few of them
    ),
    Mutation(
        "a copy is one byte",
        "wp_page.h",
        "bytes = PAGE_SIZE;",
        "bytes = 1;",
        "one-byte-per-page",
    ),
)

# Of paths that need more than fork and a write.
OF_PATHS = (
    Mutation(
        "a remote write is charged to the writer",
        "classify.h",
        "if (flags & FAULT_FLAG_REMOTE) {",
        "if (0) {",
        "remote-vm-writev",
    ),
    Mutation(
        "a shared mapping is taken for a private one",
        "classify.h",
        "wp->vm_flags & VM_SHARED",
        "0",
        "shared-file-writeback",
    ),
    Mutation(
        "an entry without access rights is taken for one of a swapped page",
        "arch_x86_64.h",
        "((pte) >> 8 & ~(pte) & 1)",
        "0ULL",
        "remote-prot-none",
    ),
    Mutation(
        "the copy of a huge page is a small one",
        "huge.h",
        "return (u64)PAGE_SIZE << read_kernel_u32(hstate, HSTATE_ORDER);",
        "return PAGE_SIZE;",
        "hugetlb-both-write",
    ),
)

# Where the page-table entry changes: bpf/pte_change.h.
OF_PTE_CHANGES = (
    Mutation(
        "a re-marked page of a shared mapping is taken for a private one",
        "pte_change.h",
        "if (vm_flags & VM_SHARED) {",
        "if (0) {",
        "shared-file-writeback",
    ),
    Mutation(
        "a hugetlb page that is re-marked counts twice",
        "pte_change.h",
        "if (vm_flags & VM_HUGETLB || !in_region(entry->address))",
        "if (!in_region(entry->address))",
        "hugetlb-both-write",
    ),
)

OF_OLD_TLB_ENTRIES = Mutation(
    "a fault of an entry that is still in the TLB counts as re-marked",
    "predict.h",
    "if (page.entry & PTE_WRITABLE)",
    "if (0)",
    "thp-parent-after-child-exit",
)

# The tracepoint plan.
OF_TRACEPOINTS = (
    Mutation(
        "a page that is only re-marked is not counted",
        "predict.h",
        "if (!page.huge && is_anon(write->source))",
        "if (0)",
        "fork-both-write",
    ),
    Mutation(
        "a copied page counts as re-marked, too",
        "allocation.h",
        "if (pending->counted)\n\t\ttake_re_mark_back(pending, key->tgid);",
        "",
        "fork-both-write",
    ),
    Mutation(
        "a re-marked page of a shared mapping is not counted",
        "predict.h",
        "if (vm_flags & VM_SHARED && vm_flags & VM_WRITE)\n\t\t\twrite->kind = SHARED;",
        "",
        "shared-file-writeback",
    ),
    OF_OLD_TLB_ENTRIES,
    Mutation(
        "an allocation after the fault counts as its copy",
        "allocation.h",
        "return stack < pending->regs &&\n",
        "return 1 || stack < pending->regs &&\n",
        "reuse-then-allocate",
    ),
    Mutation(
        "a page of zeroes counts as a copy",
        "allocation.h",
        "} else if (gfp & GFP_ZERO) {",
        "} else if (0) {",
        "zero-page",
    ),
    Mutation(
        "the first write to shared memory is not counted",
        "predict.h",
        "} else if (!(vm_flags & (VM_PFNMAP | VM_MIXEDMAP))) {",
        "} else if (0) {",
        "shared-writes",
    ),
    Mutation(
        "the first write to a private file page is not counted",
        "allocation.h",
        "return vma && read_kernel_u64(vma, VMA_FILE) &&",
        "return 0 &&",
        "private-file-first-write",
    ),
    Mutation(
        "a copy is one byte",
        "allocation.h",
        "u64 bytes = page ? PAGE_SIZE << order : 0;",
        "u64 bytes = 1;",
        "one-byte-per-page",
    ),
    Mutation(
        "faults outside the region are counted too",
        "count.h",
        "return address >= REGION_START && address < REGION_END;",
        "return 1;",
        "fork-read-only",
    ),
)


def check_under(
    plan: str, names: tuple[str, ...], *, mutation: Mutation | None, scratch: Path
) -> list[Check]:
    """Check these workloads as `cowtrace verify` does, with that BPF source."""
    with pytest.MonkeyPatch.context() as patch:
        if mutation:
            folder = scratch / "bpf"
            shutil.copytree(bpf_dir(), folder)
            mutation.apply(folder)
            patch.setattr(loader, "bpf_dir", lambda: folder)
        group = Group("mutations", tuple(WORKLOADS[name] for name in names))
        region = (REGION_START, REGION_END)
        with tracer.attach(plan, region=region, outcomes=mutation not in OF_PTE_CHANGES) as live:
            return list(checks([group], live.snapshot, pages=mutation.pages if mutation else PAGES))
