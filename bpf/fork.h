/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Count pages that fork itself copies, since they are pinned and must stay the
 * parent's: copy_present_page() in mm/memory.c, which most kernels inline. It adds
 * a reverse mapping for each copy, and inside copy_page_range() nothing else does.
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

/* folio_add_new_anon_rmap() or page_add_new_anon_rmap(page, vma, address, ...) */
int add_new_anon_rmap_enter(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = fork_inflight.lookup(&index);
	struct fault_key key = { .kind = COPIED, .source = SOURCE_ANON, .origin = ORIGIN_FORK };

	if (!slot || slot->tid != tid || !in_region(PT_REGS_PARM3(ctx)))
		return 0;
	note_fork_copy();
	key.tgid = current_tgid();	/* the parent: the child has no tgid yet */
	count_fault(ctx, &key, 0, PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx), PAGE_SIZE,
		    ANYWHERE);
	return 0;
}

#endif /* FORK_H */
