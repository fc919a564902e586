/* SPDX-License-Identifier: GPL-2.0-only */
/* The fentry plan: BPF trampolines see argument and return value at once. */
#ifndef FENTRY_H
#define FENTRY_H

#include "account.h"
#include "pair.h"

/* Only what was claimed when a fault began, and only where a race can be lost: see race.h. */
INFLIGHT(wp_inflight);

KFUNC_PROBE(do_wp_page)
{
	u64 vma = load_u64(ctx[0], VMF_VMA);
	u32 tid, index;
	struct inflight *slot;

	if (load_u32(load_u64(vma, VMA_MM), MM_USERS) <= 1)
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

INLINE u64 claim_at_entry(void)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = wp_inflight.lookup(&index);

	if (!slot || slot->tid != tid)
		return 0;	/* nobody was there to race with */
	slot->tid = 0;
	return slot->entered;
}

/* All direct loads come first: 5.10 forgets the type of a pointer that is spilled. */
KRETFUNC_PROBE(do_wp_page)
{
	u64 vmf = ctx[0], vma = load_u64(vmf, VMF_VMA), pte = load_u64(vmf, VMF_PTE);
	struct wp_result wp = {
		.vmf = vmf,
		.vma = vma,
		.vm_flags = load_u64(vma, VMA_FLAGS),
		.address = load_u64(vmf, VMF_ADDRESS),
		.before = load_u64(vmf, VMF_ORIG_PTE),
		.flags = load_u32(vmf, VMF_FLAGS),
		.mm_users = load_u32(load_u64(vma, VMA_MM), MM_USERS),
		.ret = ctx[1],
	};

	wp.after = pte ? load_u64(pte, 0) : wp.before;
	account_wp(ctx, &wp, wp.mm_users > 1 ? claim_at_entry() : 0);
	return 0;
}

KRETFUNC_PROBE(finish_fault)
{
	u64 vmf = ctx[0];
	u32 flags = load_u32(vmf, VMF_FLAGS);

	if (flags & FAULT_FLAG_WRITE)
		account_finish_fault(ctx, vmf, ctx[1], flags);
	return 0;
}

#endif /* FENTRY_H */
