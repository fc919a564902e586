/* SPDX-License-Identifier: GPL-2.0-only */
/* The fentry plan: BPF trampolines see argument and return value at once. */
#ifndef FENTRY_H
#define FENTRY_H

#include "account.h"
#include "pair.h"

/* Only when a fault began, and only where a race can be lost: see race.h. */
INFLIGHT(wp_inflight);

KFUNC_PROBE(do_wp_page)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	u64 vmf = ctx[0];
	struct inflight *slot;

	if (single_threaded(load_u64(vmf, VMF_VMA)))
		return 0;
	slot = wp_inflight.lookup(&index);
	if (!slot)
		return 0;
	slot->tid = tid;
	slot->entered_ns = bpf_ktime_get_ns();
	return 0;
}

KRETFUNC_PROBE(do_wp_page)
{
	u64 vmf = ctx[0], pte = load_u64(vmf, VMF_PTE);
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = wp_inflight.lookup(&index);
	struct wp_result wp = {
		.vmf = vmf,
		.vma = load_u64(vmf, VMF_VMA),
		.address = load_u64(vmf, VMF_ADDRESS),
		.before = load_u64(vmf, VMF_ORIG_PTE),
		.flags = load_u32(vmf, VMF_FLAGS),
		.ret = ctx[1],
	};
	u64 entered_ns = 0;

	wp.after = pte ? load_u64(pte, 0) : wp.before;
	if (slot && slot->tid == tid) {	/* else nobody was there to race with */
		entered_ns = slot->entered_ns;
		slot->tid = 0;
	}
	account_wp(&wp, entered_ns);
	return 0;
}

KRETFUNC_PROBE(finish_fault)
{
	u64 vmf = ctx[0];
	u32 flags = load_u32(vmf, VMF_FLAGS);

	if (flags & FAULT_FLAG_WRITE)
		account_finish_fault(vmf, ctx[1], flags);
	return 0;
}

#endif /* FENTRY_H */
