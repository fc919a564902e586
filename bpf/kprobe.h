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

int finish_fault_enter(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	u64 vmf = PT_REGS_PARM1(ctx);
	struct inflight *slot;

	if (!(read_kernel_u32(vmf, VMF_FLAGS) & FAULT_FLAG_WRITE))
		return 0;
	slot = finish_inflight.lookup(&index);
	if (!slot)
		return 0;
	note_entry(slot, tid);
	slot->vmf = vmf;
	return 0;
}

int finish_fault_return(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = finish_inflight.lookup(&index);

	/* Entries of reads were not noted: a free slot is not a loss here. */
	if (slot && match_return(slot, tid))
		account_finish_fault(ctx, slot->vmf, PT_REGS_RC(ctx),
				     read_kernel_u32(slot->vmf, VMF_FLAGS));
	return 0;
}

#endif /* KPROBE_H */
