/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Foretell what a write to a present page does, by the page-table entry and the mapping as
 * the fault begins: the tracepoint plan sees no end of a fault. Until the kernel takes its
 * locks, another thread can change both.
 */
#ifndef FORETELL_H
#define FORETELL_H

#include "classify.h"
#include "vma.h"
#ifdef PAGE_TABLE
#include "page_table.h"
#endif

enum write_class {
	NOTHING,	/* it takes no page that counts */
	WRITE_PROTECT,	/* of a present page */
	MISSING,	/* of a page that is not present, perhaps of a private file */
};

#define NO_KIND	0xff

struct foretold {
	u64 vma;	/* 0: unknown */
	u8 class;	/* enum write_class */
	u8 kind;	/* to count at once: SHARED; REUSED, unless a page is allocated; or NO_KIND */
	u8 source;	/* of the page: enum fault_source */
	u8 re_marked;	/* source that REUSED counts with: no small page counts as THP */
};

/* The vma of an address in the current process, if mappings are noted; else 0. */
INLINE u64 vma_to_note(u64 address)
{
#if defined(MM_MT) && defined(MAPPINGS)
	return find_vma(read_kernel_u64(bpf_get_current_task(), TASK_MM), address);
#else
	return 0;
#endif
}

#ifdef PAGE_TABLE
/* The kernel re-marks pages of these sources alone; it always replaces the others. */
INLINE int may_be_reused(u8 source)
{
	return source == SOURCE_ANON || source == SOURCE_THP || source == SOURCE_UNKNOWN;
}

/* A write to a page that is present. */
INLINE void foretell_present(struct foretold *write, const struct mapped *page, u64 vm_flags)
{
	write->class = WRITE_PROTECT;
	write->kind = NO_KIND;
	if (page->entry & PTE_WRITABLE)
		return;		/* by now, or the TLB has an older entry */
	if (vm_flags & (VM_SHARED | VM_HUGETLB)) {
		write->class = NOTHING;		/* hugetlb has its own pool of new pages */
		write->source = vm_flags & VM_HUGETLB ? SOURCE_HUGETLB : SOURCE_FILE;
		if (vm_flags & VM_SHARED)
			write->kind = SHARED;
		return;
	}
	write->source = source_of_mapped(page);
	if (page->huge && write->source == SOURCE_UNKNOWN && address_of(VMEMMAP_BASE))
		write->source = SOURCE_ZERO;	/* its struct page belongs to no mapping */
	if (page->huge && write->source == SOURCE_FILE)
		write->class = MISSING;		/* the kernel unmaps it: __split_huge_pmd() */
	else if (may_be_reused(write->source))
		write->kind = REUSED;
	write->re_marked = write->source == SOURCE_THP && !page->huge ? SOURCE_ANON : write->source;
}

/* A write to a page that is not: to one of a file, shared or private; or to none. */
INLINE void foretell_missing(struct foretold *write, const struct mapped *page, u64 vm_flags)
{
	write->class = NOTHING;
	write->kind = NO_KIND;
	if (page->entry || vm_flags & VM_HUGETLB)
		return;		/* swapped out, on the move, or without access rights */
	if (vm_flags & VM_SHARED) {
		write->source = SOURCE_FILE;
		if (!(vm_flags & (VM_PFNMAP | VM_MIXEDMAP)))	/* drivers map these themselves */
			write->kind = SHARED;
	} else if (read_kernel_u64(write->vma, VMA_FILE)) {
		write->class = MISSING;
	}
}

/* Returns 0 if the vma is not found: another thread changes the mappings. */
INLINE int foretell_by_table(struct foretold *write, u64 address)
{
	u64 mm = read_kernel_u64(bpf_get_current_task(), TASK_MM);
	u64 vma = find_vma(mm, address), vm_flags;
	struct mapped page;

	if (read_kernel_u64(vma, VMA_MM) != mm)
		return 0;
	write->vma = vma;
	vm_flags = read_kernel_u64(vma, VMA_FLAGS);
	page = mapped_at(mm, address);
	if (!(vm_flags & VM_WRITE)) {
		write->class = NOTHING;		/* SIGSEGV */
		write->kind = NO_KIND;
	} else if (page.entry & PTE_PRESENT && !page.no_access) {
		foretell_present(write, &page, vm_flags);
	} else {
		foretell_missing(write, &page, vm_flags);
	}
	return 1;
}
#else
INLINE int foretell_by_table(struct foretold *write, u64 address) { return 0; }
#endif

INLINE struct foretold foretell(u64 address, u64 error_code)
{
	struct foretold write = {};

	if (foretell_by_table(&write, address))
		return write;
	if (error_code & PF_PROT) {
		write.class = WRITE_PROTECT;
		write.kind = REUSED;
		write.vma = vma_to_note(address);
	} else {
		write.class = MISSING;
		write.kind = NO_KIND;
	}
	return write;
}

#endif /* FORETELL_H */
