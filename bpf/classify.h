/* SPDX-License-Identifier: GPL-2.0-only */
/* What became of a fault: written once, for the kprobe and the fentry plan. */
#ifndef CLASSIFY_H
#define CLASSIFY_H

#include "count.h"

/* What one call of do_wp_page() left behind. */
struct wp_result {
	u64 vma;	/* struct vm_area_struct * */
	u64 vm_flags;
	u64 address;
	u64 before;	/* the page-table entry that faulted */
	u64 after;	/* the entry now; as before when the page table itself is gone */
	u64 page;	/* struct page * of another frame than now, NULL for the zero page */
	u32 ret;	/* vm_fault_t */
	u32 flags;	/* enum fault_flag */
	u32 mm_users;	/* 1: nobody but the current thread can fault in this mm */
};

INLINE int same_frame(const struct wp_result *wp)
{
	return !((wp->before ^ wp->after) & PTE_FRAME_MASK);
}

/*
 * What do_wp_page() leaves in its struct vm_fault; all but ret and mm_users. The
 * loads follow one another: 5.10 forgets the type of a pointer that is spilled.
 */
INLINE void read_wp(struct wp_result *wp, u64 vmf)
{
	u64 fault = known(vmf), pte = load_u64(fault, VMF_PTE);

	wp->vma = load_u64(fault, VMF_VMA);
	wp->address = load_u64(fault, VMF_ADDRESS);
	wp->before = load_u64(fault, VMF_ORIG_PTE);
	wp->flags = load_u32(fault, VMF_FLAGS);
	wp->vm_flags = load_u64(known(wp->vma), VMA_FLAGS);
	wp->after = pte ? load_u64(known(pte), 0) : wp->before;
	wp->page = same_frame(wp) ? 0 : read_u64(vmf, VMF_PAGE);
}

INLINE u32 read_mm_users(u64 vma)
{
	return load_u32(known(load_u64(known(vma), VMA_MM)), MM_USERS);
}

/*
 * Frame changed: the page was replaced, by its copy unless it was the zero page.
 * Frame kept and writable: re-marked.
 */
INLINE u8 classify_wp(const struct wp_result *wp)
{
	if (wp->ret & VM_FAULT_ERROR)
		return FAILED;
	if (wp->after == wp->before)
		return UNCHANGED;
	/*
	 * Before 6.0 also a retry may have made the page writable, and then let go of
	 * the lock to throttle the writer: fault_dirty_shared_page().
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
 * The head of a tail page: its address + 1 where struct page has compound_head,
 * a mask that leads there where it has compound_info instead. No struct page
 * lies in the last 4 GiB of the address space, so the two cannot be confused.
 */
INLINE u64 compound_head(u64 page, u64 info)
{
	return ~info >> 32 ? info - 1 : page & info & ~1ULL;
}

/* Whose bytes a page holds. */
INLINE u8 source_of(u64 page)
{
#if defined(PAGE_MAPPING) && defined(PAGE_COMPOUND_HEAD) && defined(PG_head)
	u64 info, mapping, head = page;
	int large;
#endif

	if (!page)
		return SOURCE_FILE;	/* VM_PFNMAP: a device's memory */
#if defined(PAGE_MAPPING) && defined(PAGE_COMPOUND_HEAD) && defined(PG_head)
	info = read_u64(page, PAGE_COMPOUND_HEAD);
	if (info & 1)
		head = compound_head(page, info);
	large = info & 1 || read_u64(page, 0) >> PG_head & 1;
	mapping = read_u64(head, PAGE_MAPPING);
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
	if (flags & FAULT_FLAG_UNSHARE)
		return ORIGIN_UNSHARE;
	if (flags & FAULT_FLAG_REMOTE)
		return ORIGIN_REMOTE;
	return flags & FAULT_FLAG_USER ? ORIGIN_USER : ORIGIN_KERNEL;
}

/*
 * The memory's owner: not the current process when another one makes the fault,
 * be it to write or, with FAULT_FLAG_UNSHARE, to read (process_vm_readv).
 * `current` is its tgid. Returns one of the owner's threads, 0 for the current one.
 * For kprobe programs too, in every plan: no direct loads.
 */
INLINE u64 charge(struct fault_key *key, u32 current, u64 vma, u32 flags)
{
	u64 task = 0;

	key->tgid = current;
#ifdef MM_OWNER	/* CONFIG_MEMCG; without it the actor is charged */
	if (flags & FAULT_FLAG_REMOTE) {
		task = read_u64(read_u64(vma, VMA_MM), MM_OWNER);
		key->tgid = read_u32(task, TASK_TGID);
		if (key->origin == ORIGIN_REMOTE || key->tgid != current)
			key->actor = current;
	}
#endif
	return task;
}

#endif /* CLASSIFY_H */
