/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Count pages that fork itself copies, since they are pinned and must stay the
 * parent's: copy_present_page() in mm/memory.c, which most kernels inline, and
 * copy_hugetlb_page_range(). They add a reverse mapping for each copy, and inside
 * copy_page_range() nothing else does.
 * Off by default: the kernel adds a reverse mapping for every new anonymous page.
 */
#ifndef FORK_H
#define FORK_H

#include "classify.h"
#include "detail.h"
#include "pair.h"

INFLIGHT(fork_inflight);

int copy_page_range_enter(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = fork_inflight.lookup(&index);

	if (slot)
		note_entry(slot, tid);
	return 0;
}

int copy_page_range_return(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = fork_inflight.lookup(&index);

	if (slot)
		match_return(slot, tid);
	return 0;
}

INLINE int is_forking(u32 tid, u64 address)
{
	u32 index = tid & (SLOTS - 1);
	struct inflight *slot = fork_inflight.lookup(&index);

	return slot && slot->tid == tid && in_region(address);
}

INLINE void count_fork_copy(void *ctx, u8 source, u64 vma, u64 address, u64 bytes)
{
	struct fault_key key = { .kind = COPIED, .source = source, .origin = ORIGIN_FORK };

	note_fork_copy(bytes >> PAGE_SHIFT);
	key.tgid = current_tgid();	/* the parent: the child has no tgid yet */
	count_fault(ctx, &key, 0, vma, address, bytes, ANYWHERE);
}

/* folio_add_new_anon_rmap() or page_add_new_anon_rmap(page, vma, address, ...) */
int add_new_anon_rmap_enter(struct pt_regs *ctx)
{
	u64 vma = PT_REGS_PARM2(ctx), address = PT_REGS_PARM3(ctx);

	if (is_forking(current_tid(), address))
		count_fork_copy(ctx, SOURCE_ANON, vma, address, PAGE_SIZE);
	return 0;
}

#ifdef HUGETLB_FORK_COPIES
/* hugetlb_add_new_anon_rmap() or hugepage_add_new_anon_rmap(page, vma, address) */
int hugetlb_add_new_anon_rmap_enter(struct pt_regs *ctx)
{
	u64 vma = PT_REGS_PARM2(ctx), address = PT_REGS_PARM3(ctx);

	if (is_forking(current_tid(), address))
		count_fork_copy(ctx, SOURCE_HUGETLB, vma, address, hugetlb_bytes(vma));
	return 0;
}
#endif

#endif /* FORK_H */
