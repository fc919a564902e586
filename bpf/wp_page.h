/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Count a fault when do_wp_page() returns: its page-table entry before and after tell
 * what became of the page. Sees faults that fail or change nothing, too.
 */
#ifndef WP_PAGE_H
#define WP_PAGE_H

#include "classify.h"
#include "detail.h"
#include "lost_race.h"
#include "pair.h"

/* With fentry: `tid` and `entered` alone, and only where a race can be lost: see lost_race.h. */
INFLIGHT(wp_inflight);

/* do_wp_page() returns: a write to a page that is present and not writable. */
INLINE void account_wp(void *ctx, const struct wp_result *wp, u32 current, u64 entered)
{
	struct fault_key key = {};
	u64 bytes = 0, task;

	if (!in_region(wp->address))
		return;
	key.kind = classify_wp(wp);
	key.origin = origin_of(wp->flags);
	task = charge(&key, current, wp->vma, wp->flags);
	if (key.kind == COPIED && wp->mm_users > 1 &&
	    lost_race(read_kernel_u64(wp->vma, VMA_MM), wp->address, pte_frame(wp->after), entered))
		key.kind = UNCHANGED;

	switch (key.kind) {
	case COPIED:
		set_replaced(&key, wp->page, wp->vm_flags, wp->before);
		bytes = PAGE_SIZE;
		break;
	case REUSED:
		key.source = SOURCE_ANON;	/* only anonymous pages can be exclusive */
		break;
	case SHARED:
		key.source = SOURCE_FILE;
		break;
	}
	count_fault(ctx, &key, task, wp->vma, wp->written, bytes, ANYWHERE);
}

#ifdef PLAN_FENTRY
KFUNC_PROBE(do_wp_page)
{
	u64 vma = load_kernel_u64(ctx[0], VMF_VMA);
	u32 tid, index;
	struct inflight *slot;

	if (read_mm_users(vma) <= 1)
		return 0;
	tid = current_tid();
	index = tid & (SLOTS - 1);
	slot = wp_inflight.lookup(&index);
	if (!slot)
		return 0;
	slot->tid = tid;
	slot->entered = next_claim();
	return 0;
}

INLINE u64 claim_at_entry(u32 tid)
{
	u32 index = tid & (SLOTS - 1);
	struct inflight *slot = wp_inflight.lookup(&index);

	if (!slot || slot->tid != tid)
		return 0;	/* no other thread could fault */
	slot->tid = 0;
	return slot->entered;
}

KRETFUNC_PROBE(do_wp_page)
{
	struct wp_result wp = {};
	u64 id;

	read_wp(&wp, ctx[0]);
	wp.mm_users = read_mm_users(wp.vma);
	wp.ret = ctx[1];
	id = bpf_get_current_pid_tgid();
	account_wp(ctx, &wp, id >> 32, wp.mm_users > 1 ? claim_at_entry(id) : 0);
	return 0;
}

#else	/* kprobes */

#ifdef CROSS_CHECK
#define COPYING	0x80000000U	/* in flags: wp_page_copy() was entered */

/* Where wp_page_copy() is not inlined, every copy must have entered it. */
int wp_page_copy_enter(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = wp_inflight.lookup(&index);

	if (slot && slot->tid == tid)
		slot->flags |= COPYING;
	return 0;
}

INLINE void expect_copying(struct inflight *slot)
{
	slot->flags = 0;
}

INLINE void check_copying(const struct wp_result *wp, const struct inflight *slot)
{
	int copying = slot->flags & COPYING ? 1 : 0;
	u8 kind;

	if (!in_region(wp->address))
		return;
	kind = classify_wp(wp);
	if (kind != COPIED && kind != REUSED)
		return;
	add_to_counter(COUNT_CHECKED, 1);
	if (copying != (kind != REUSED))
		add_to_counter(COUNT_CHECK_FAILED, 1);
}
#else
INLINE void expect_copying(struct inflight *slot) {}
INLINE void check_copying(const struct wp_result *wp, const struct inflight *slot) {}
#endif

int do_wp_page_enter(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = wp_inflight.lookup(&index);
	u64 vmf = PT_REGS_PARM1(ctx);

	if (!slot)
		return 0;
	note_entry(slot, tid);
	slot->vmf = vmf;
	expect_copying(slot);
	slot->entered = next_claim();
	return 0;
}

int do_wp_page_return(struct pt_regs *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 tid = id, index = tid & (SLOTS - 1);
	struct inflight *slot = wp_inflight.lookup(&index);
	struct wp_result wp = {};

	if (!slot)
		return 0;
	if (!match_return(slot, tid)) {
		if (!slot->tid)
			count_loss(LOSS_ENTRY_MISSED);
		return 0;
	}
	read_wp(&wp, slot->vmf);
	/* Only a copy can have lost a race. */
	wp.mm_users = same_frame(&wp) ? 1 : read_mm_users(wp.vma);
	wp.ret = PT_REGS_RC(ctx);
	account_wp(ctx, &wp, id >> 32, slot->entered);
	check_copying(&wp, slot);
	return 0;
}

#endif
#endif /* WP_PAGE_H */
