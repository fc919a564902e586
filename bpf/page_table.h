/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Find the entry that maps an address, for programs that are passed none: walk down the
 * page table as the CPU does, through the kernel's mapping of all memory. No lock is
 * held: a table that is freed meanwhile reads as anything.
 */
#ifndef PAGE_TABLE_H
#define PAGE_TABLE_H

#include "classify.h"

#if defined(__x86_64__)

#define PMD_SHIFT	21
#define PUD_SHIFT	30
#define P4D_SHIFT	39	/* of the uppermost table, where there are four levels */
#define PGDIR_SHIFT_L5	48
#define ENTRY_LEAF	0x80	/* _PAGE_PSE: the entry maps a huge page */
#define ENTRY_SPECIAL	0x200	/* _PAGE_SPECIAL: no struct page belongs to it, as to the zero page */

/* What maps one page. */
struct mapped {
	u64 entry;	/* as by present_huge(), with the frame of that very page */
	u64 no_access;	/* 1: present to the kernel, without access rights */
	u64 huge;	/* not 0: an entry of an upper level, which maps more pages than this, or none */
};

/* Of one table: the entry for this address. `shift`: bits of an address that lie below. */
INLINE u64 table_entry(u64 table, u64 address, u64 shift)
{
	return read_kernel_u64(table + (address >> (shift - 3) & (PAGE_SIZE - 8)), 0);
}

#define leads_on(entry) (((entry) & (PTE_PRESENT | ENTRY_LEAF)) == PTE_PRESENT)

INLINE struct mapped mapped_at(u64 mm, u64 address)
{
	u64 table = read_kernel_u64(mm, MM_PGD), entry, shift, inside;
	struct mapped found = {};

	/* Unrolled by hand: in a loop, the shifts take half as many instructions again. */
#define step_down(to_shift)							\
	(shift = (to_shift), entry = table_entry(table, address, to_shift),	\
	 table = address_of(PAGE_OFFSET_BASE) + (entry & address_of(PHYSICAL_MASK)), \
	 leads_on(entry))
	if ((address_of(PGDIR_SHIFT) <= P4D_SHIFT || step_down(PGDIR_SHIFT_L5)) &&
	    step_down(P4D_SHIFT) && step_down(PUD_SHIFT) && step_down(PMD_SHIFT)) {
		shift = PAGE_SHIFT;
		entry = table_entry(table, address, PAGE_SHIFT);
		if (entry & PTE_PRESENT) {
			found.entry = entry;
			return found;
		}
	}
#undef step_down
	found.huge = shift - PAGE_SHIFT;
	found.no_access = huge_no_access(entry);	/* on x86-64, right for a small one as well */
	inside = PTE_FRAME_MASK & ((1ULL << shift) - 1);
	found.entry = (present_huge(entry) & ~inside) | (address & inside & -(u64)(entry != 0));
	return found;
}

INLINE int is_zero_page(const struct mapped *page)
{
	u64 first;

	if (!page->huge)
		return page->entry & ENTRY_SPECIAL && is_zero_entry(page->entry);
	first = (page->entry & HUGE_FRAME_MASK & address_of(PHYSICAL_MASK)) >> PAGE_SHIFT;
	return address_of(HUGE_ZERO_PFN) &&
	       first == read_kernel_u64(address_of(HUGE_ZERO_PFN), 0);
}

/* struct page of a frame. */
INLINE u64 page_of(u64 entry)
{
	u64 frame = (entry & address_of(PHYSICAL_MASK)) >> PAGE_SHIFT;

	return address_of(VMEMMAP_BASE) + frame * PAGE_STRUCT_BYTES;
}

INLINE u8 source_of_mapped(const struct mapped *page)
{
	if (is_zero_page(page))
		return SOURCE_ZERO;
	if (page->entry & ENTRY_SPECIAL)
		return SOURCE_FILE;	/* a device's memory */
	return address_of(VMEMMAP_BASE) ? source_of(page_of(page->entry)) : SOURCE_UNKNOWN;
}

#endif
#endif /* PAGE_TABLE_H */
