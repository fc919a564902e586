/* SPDX-License-Identifier: GPL-2.0-only */
/* The fentry plan: BPF trampolines; an fexit program sees argument and return value. */
#ifndef FENTRY_H
#define FENTRY_H

#include "account.h"
#include "pair.h"

/* Of these, `tid` and `entered`, and only where a race can be lost: see lost_race.h. */
INFLIGHT(wp_inflight);

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

KRETFUNC_PROBE(finish_fault)
{
	u64 vmf = ctx[0];
	u32 flags = load_kernel_u32(vmf, VMF_FLAGS);

	if (flags & FAULT_FLAG_WRITE)
		account_finish_fault(ctx, vmf, ctx[1], flags);
	return 0;
}

#endif /* FENTRY_H */
