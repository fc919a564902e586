/* SPDX-License-Identifier: GPL-2.0-only */
/* Classify a fault by its page-table entry before and after: kprobe and fentry plan. */
#ifndef CLASSIFY_H
#define CLASSIFY_H

#include "count.h"
#include "written_address.h"

/* The result of one call of do_wp_page(). */
struct wp_result {
	u64 vma;	/* struct vm_area_struct * */
	u64 vm_flags;
	u64 address;	/* of the page */
	u64 written;	/* of the byte: written_address.h */
	u64 before;	/* the page-table entry that faulted, as by present_pte() */
	u64 after;	/* the entry now; equal to `before` when the page table itself is gone */
	u64 page;	/* struct page * of the old frame if it changed; NULL for the zero page */
	u32 ret;	/* vm_fault_t */
	u32 flags;	/* enum fault_flag */
	u32 mm_users;	/* 1: only the current thread can fault in this mm */
};

INLINE int same_frame(const struct wp_result *wp)
{
	return !((wp->before ^ wp->after) & PTE_FRAME_MASK);
}

/*
 * Read from struct vm_fault what do_wp_page() left there: all fields but ret and
 * mm_users. The loads follow one another, so that no pointer is spilled to the
 * stack: the verifier of 5.10 forgets the type of a spilled pointer.
 */
INLINE void read_wp(struct wp_result *wp, u64 vmf)
{
	u64 fault = kernel_pointer(vmf), pte = load_kernel_u64(fault, VMF_PTE);

	wp->vma = load_kernel_u64(fault, VMF_VMA);
	wp->address = load_kernel_u64(fault, VMF_ADDRESS);
	wp->written = written_address(vmf, wp->address);
	wp->before = present_pte(load_kernel_u64(fault, VMF_ORIG_PTE));
	wp->flags = load_kernel_u32(fault, VMF_FLAGS);
	wp->vm_flags = load_kernel_u64(kernel_pointer(wp->vma), VMA_FLAGS);
	wp->after = pte ? present_pte(load_kernel_u64(kernel_pointer(pte), 0)) : wp->before;
	wp->page = same_frame(wp) ? 0 : read_kernel_u64(vmf, VMF_PAGE);
}

INLINE u32 read_mm_users(u64 vma)
{
	return load_kernel_u32(kernel_pointer(load_kernel_u64(kernel_pointer(vma), VMA_MM)), MM_USERS);
}

/*
 * Another frame: the page was replaced, by its copy unless it was the zero page.
 * The same frame, now writable: re-marked.
 */
INLINE u8 classify_wp(const struct wp_result *wp)
{
	if (wp->ret & VM_FAULT_ERROR)
		return FAILED;
	if (wp->after == wp->before)
		return UNCHANGED;
	/*
	 * Before 6.0, a fault that returns VM_FAULT_RETRY may also have made the page
	 * writable: fault_dirty_shared_page() drops the lock to throttle the writer.
	 */
	if (wp->vm_flags & VM_SHARED && wp->after & PTE_PRESENT)
		return wp->after & PTE_WRITABLE ? SHARED : UNCHANGED;
	if (wp->ret & VM_FAULT_RETRY)
		return UNCHANGED;
	if (!(wp->after & PTE_PRESENT))
		return UNCLASSIFIED;	/* zapped or swapped out meanwhile */
	if (!same_frame(wp))
		return COPIED;
	return wp->after & PTE_WRITABLE ? REUSED : UNCHANGED;
}

/*
 * The head of a tail page. `info` is the head's address + 1 where struct page has
 * compound_head, or a mask of the page's address where it has compound_info. No
 * struct page lies in the last 4 GiB of the address space: a mask does.
 */
INLINE u64 compound_head(u64 page, u64 info)
{
	return ~info >> 32 ? info - 1 : page & info & ~1ULL;
}

/* The source of a page's bytes. */
INLINE u8 source_of(u64 page)
{
#if defined(PAGE_MAPPING) && defined(PAGE_COMPOUND_HEAD) && defined(PG_head)
	u64 info, mapping, head = page;
	int large;
#endif

	if (!page)
		return SOURCE_FILE;	/* a device's memory */
#if defined(PAGE_MAPPING) && defined(PAGE_COMPOUND_HEAD) && defined(PG_head)
	info = read_kernel_u64(page, PAGE_COMPOUND_HEAD);
	if (info & 1)
		head = compound_head(page, info);
	large = info & 1 || read_kernel_u64(page, 0) >> PG_head & 1;
	mapping = read_kernel_u64(head, PAGE_MAPPING);
	switch (mapping & 3) {	/* include/linux/page-flags.h, PAGE_MAPPING_FLAGS */
	case 1:
		return large ? SOURCE_THP : SOURCE_ANON;
	case 3:
		return SOURCE_KSM;
	}
	if (mapping)
		return SOURCE_FILE;
#endif
	return SOURCE_UNKNOWN;
}

INLINE u8 origin_of(u32 flags)
{
	if (flags & (FAULT_FLAG_UNSHARE | FAULT_FLAG_REMOTE))
		return flags & FAULT_FLAG_UNSHARE ? ORIGIN_UNSHARE : ORIGIN_REMOTE;
	return flags & FAULT_FLAG_USER ? ORIGIN_USER : ORIGIN_KERNEL;
}

/*
 * Charge a fault to the owner of the memory. That is not the current process when
 * another process makes the fault, to write or, with FAULT_FLAG_UNSHARE, to read
 * (process_vm_readv). `current` is the current tgid. Returns a thread of the owner,
 * 0 for the current one. Every plan's kprobe programs call this: no direct loads.
 */
INLINE u64 charge(struct fault_key *key, u32 current, u64 vma, u32 flags)
{
	u64 task = 0;

	key->tgid = current;
#ifdef MM_OWNER	/* CONFIG_MEMCG; without it the actor is charged */
	if (flags & FAULT_FLAG_REMOTE) {
		task = read_kernel_u64(read_kernel_u64(vma, VMA_MM), MM_OWNER);
		key->tgid = read_kernel_u32(task, TASK_TGID);
		if (key->origin == ORIGIN_REMOTE || key->tgid != current)
			key->actor = current;
	}
#endif
	return task;
}

/* Faults that fail or change nothing: where not all of them are seen, none is counted. */
#ifdef PTE_CHANGES
#define is_counted(kind) ((kind) != UNCHANGED && (kind) != FAILED)
#else
#define is_counted(kind) 1
#endif

/* Whether an entry without a struct page maps the zero page, rather than a device's memory. */
INLINE int is_zero_entry(u64 entry)
{
	u64 zero = address_of(ZERO_PFN);

	return !zero || (entry & address_of(PHYSICAL_MASK)) >> FRAME_SHIFT == zero;
}

/*
 * The kind and source of a page that was replaced. `page`: what do_wp_page() left in
 * vmf->page, the old page; NULL for the zero page, and for a device's memory: VM_PFNMAP,
 * or DAX before "mm/dax: Remove unnecessary pte_devmap checks and others" (6.15). `before`:
 * its entry.
 */
INLINE void set_replaced(struct fault_key *key, u64 page, u64 vm_flags, u64 before)
{
	if (page || vm_flags & VM_PFNMAP || !is_zero_entry(before)) {
		key->kind = COPIED;
		key->source = source_of(page);
		/*
		 * When its last holder copies a merged page, the page is freed before
		 * this reads it. No other page is copied for its only holder.
		 */
		if (key->source == SOURCE_UNKNOWN && vm_flags & VM_MERGEABLE)
			key->source = SOURCE_KSM;
	} else {
		key->kind = ZERO_FILLED;
		key->source = SOURCE_ZERO;
	}
}

#endif /* CLASSIFY_H */
