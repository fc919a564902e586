/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Predict, when a fault starts, what the write does: from the page-table entry, and the
 * mapping where the entry does not tell. The tracepoint plan does not see the end of a
 * fault. Until the kernel takes its locks, another thread can change both.
 */
#ifndef PREDICT_H
#define PREDICT_H

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

struct prediction {
	u64 vma;	/* 0: unknown, or not needed */
	u8 class;	/* enum write_class */
	u8 kind;	/* to count at once: SHARED; REUSED, unless a page is allocated; or NO_KIND */
	u8 source;	/* of the page: enum fault_source */
	u8 re_marked;	/* source that REUSED counts with: no small page counts as THP */
};

/* The vma of an address in the current process; 0: unknown. */
INLINE u64 current_vma(u64 address)
{
#ifdef MM_MT
	return find_vma(read_kernel_u64(bpf_get_current_task(), TASK_MM), address);
#else
	return 0;
#endif
}

/* The same if mappings are noted; else 0. */
INLINE u64 vma_to_note(u64 address)
{
#ifdef MAPPINGS
	return current_vma(address);
#else
	return 0;
#endif
}

#ifdef PAGE_TABLE
INLINE int is_anon(u8 source)
{
	return source == SOURCE_ANON || source == SOURCE_THP;
}

/* Notes the vma and returns its flags; 0: not found, another thread changes the mappings. */
INLINE u64 note_vma(struct prediction *write, u64 mm, u64 address)
{
	u64 vma = find_vma(mm, address);

	if (read_kernel_u64(vma, VMA_MM) != mm)
		return 0;
	write->vma = vma;
	return read_kernel_u64(vma, VMA_FLAGS);
}

/* A write to a page that is not present: of a file, shared or private, or a first touch. */
INLINE void predict_missing(struct prediction *write, u64 mm, u64 address)
{
	u64 vm_flags = note_vma(write, mm, address);
	struct mapped page;

	write->class = vm_flags ? NOTHING : MISSING;
	if (!(vm_flags & VM_WRITE) || vm_flags & VM_HUGETLB)
		return;
	if (!(vm_flags & VM_SHARED) && !read_kernel_u64(write->vma, VMA_FILE))
		return;		/* a first touch of anonymous memory */
	page = mapped_at(mm, address);
	if (page.entry)
		return;		/* swapped out, on the move, or without access rights */
	if (!(vm_flags & VM_SHARED)) {
		write->class = MISSING;
	} else if (!(vm_flags & (VM_PFNMAP | VM_MIXEDMAP))) {	/* drivers map these themselves */
		write->kind = SHARED;
		write->source = SOURCE_FILE;
	}
}

/*
 * Where its frame is hidden: the huge zero page is special since "mm/huge_memory: mark
 * PMD mappings of the huge zero folio special" (6.18), as are pages of devices, which
 * map a file.
 */
INLINE int is_hidden_huge_zero(const struct mapped *page, u64 vma)
{
	return page->huge && page->entry & ENTRY_SPECIAL && !address_of(HUGE_ZERO_PFN) &&
	       !read_kernel_u64(vma, VMA_FILE);
}

/* A write to a present page that may be of a shared mapping or of hugetlb, or huge. */
INLINE void predict_by_mapping(struct prediction *write, const struct mapped *page, u64 vm_flags)
{
	if (vm_flags & (VM_SHARED | VM_HUGETLB)) {
		write->class = NOTHING;		/* hugetlb has its own pool of new pages */
		write->source = vm_flags & VM_HUGETLB ? SOURCE_HUGETLB : SOURCE_FILE;
		if (vm_flags & VM_SHARED && vm_flags & VM_WRITE)
			write->kind = SHARED;
	} else if (is_hidden_huge_zero(page, write->vma)) {
		write->source = SOURCE_ZERO;
	} else if (page->huge && write->source == SOURCE_FILE) {
		write->class = MISSING;		/* the kernel unmaps it: __split_huge_pmd() */
	} else if (page->huge && write->source == SOURCE_UNKNOWN && address_of(VMEMMAP_BASE)) {
		write->source = SOURCE_ZERO;	/* its struct page belongs to no mapping */
	} else if (is_anon(write->source) || write->source == SOURCE_UNKNOWN) {
		write->kind = REUSED;
	}
}

/* A write to a page that was present as the exception was raised. */
INLINE void predict_present(struct prediction *write, u64 mm, u64 address)
{
	struct mapped page = mapped_at(mm, address);

	if (!(page.entry & PTE_PRESENT) || page.no_access) {
		predict_missing(write, mm, address);
		return;
	}
	write->class = WRITE_PROTECT;
	if (page.entry & PTE_WRITABLE)
		return;		/* by now, or the TLB has an older entry */
	write->source = source_of_mapped(&page);
	write->re_marked = page.huge ? write->source : SOURCE_ANON;
	/* The kernel replaces the zero page and those of KSM, whatever the mapping. */
	if (!page.huge && is_anon(write->source))
		write->kind = REUSED;	/* if the mapping forbids it: signal_generate */
	else if (page.huge || write->source == SOURCE_FILE || write->source == SOURCE_UNKNOWN)
		predict_by_mapping(write, &page, note_vma(write, mm, address));
	if (write->source == SOURCE_UNKNOWN)
		write->re_marked = SOURCE_UNKNOWN;
}

INLINE struct prediction predict(u64 address, u64 error_code)
{
	struct prediction write = { .kind = NO_KIND };
	u64 mm = read_kernel_u64(bpf_get_current_task(), TASK_MM);

	if (error_code & PF_PROT)
		predict_present(&write, mm, address);
	else
		predict_missing(&write, mm, address);
	if (write.kind == REUSED && !write.vma)
		write.vma = vma_to_note(address);
	return write;
}
#else
INLINE struct prediction predict(u64 address, u64 error_code)
{
	struct prediction write = { .class = MISSING, .kind = NO_KIND };

	if (error_code & PF_PROT) {
		write.class = WRITE_PROTECT;
		write.kind = REUSED;
		write.vma = vma_to_note(address);
	}
	return write;
}
#endif

#endif /* PREDICT_H */
