/* SPDX-License-Identifier: GPL-2.0-only */
/* The kprobe plan: kprobe + kretprobe, paired by thread. */
#ifndef KPROBE_H
#define KPROBE_H

#include "account.h"
#include "pair.h"

INFLIGHT(wp_inflight);
INFLIGHT(finish_inflight);

#ifdef CROSS_CHECK
#define COPYING	0x80000000U	/* in flags: wp_page_copy() was entered */

/* Where wp_page_copy() was not inlined: every copy must have passed through it. */
int wp_page_copy_enter(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = wp_inflight.lookup(&index);

	if (slot && slot->tid == tid)
		slot->flags |= COPYING;
	return 0;
}

INLINE void check_copying(const struct wp_result *wp, int copying)
{
	u8 kind;

	if (!in_region(wp->address))
		return;
	kind = classify_wp(wp);
	if (kind != COPIED && kind != REUSED)
		return;
	lose(LOSS_CHECKED);
	if (copying != (kind != REUSED))
		lose(LOSS_CHECK_FAILED);
}
#endif

int do_wp_page_enter(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = wp_inflight.lookup(&index);
	u64 vmf = PT_REGS_PARM1(ctx);

	if (!slot)
		return 0;
	enter(slot, tid);
	slot->vmf = vmf;
#ifdef CROSS_CHECK
	slot->flags = 0;
#endif
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
	if (!leave(slot, tid)) {
		if (!slot->tid)
			lose(LOSS_ENTRY_MISSED);
		return 0;
	}
	read_wp(&wp, slot->vmf);
	/* Only a copy can have been raced for. */
	wp.mm_users = same_frame(&wp) ? 1 : read_mm_users(wp.vma);
	wp.ret = PT_REGS_RC(ctx);
	account_wp(ctx, &wp, id >> 32, slot->entered);
#ifdef CROSS_CHECK
	check_copying(&wp, slot->flags & COPYING ? 1 : 0);
#endif
	return 0;
}

int finish_fault_enter(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	u64 vmf = PT_REGS_PARM1(ctx);
	struct inflight *slot;

	if (!(read_u32(vmf, VMF_FLAGS) & FAULT_FLAG_WRITE))
		return 0;
	slot = finish_inflight.lookup(&index);
	if (!slot)
		return 0;
	enter(slot, tid);
	slot->vmf = vmf;
	return 0;
}

int finish_fault_return(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = finish_inflight.lookup(&index);

	/* Reads were not entered: a free slot is no loss here. */
	if (slot && leave(slot, tid))
		account_finish_fault(ctx, slot->vmf, PT_REGS_RC(ctx),
				     read_u32(slot->vmf, VMF_FLAGS));
	return 0;
}

#endif /* KPROBE_H */
