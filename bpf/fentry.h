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

	if (single_threaded(read_u64(vmf, VMF_VMA)))
		return 0;
	slot = wp_inflight.lookup(&index);
	if (!slot)
		return 0;
	slot->tid = tid;
	slot->vmf = vmf;
	slot->entered_ns = bpf_ktime_get_ns();
	return 0;
}

KRETFUNC_PROBE(do_wp_page)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = wp_inflight.lookup(&index);
	struct wp_result wp;

	if (!slot)
		return 0;
	read_wp_result(&wp, ctx[0], ctx[1]);
	/* Of another fault, or none: there was but one thread when this one began. */
	account_wp(&wp, slot->tid == tid && slot->vmf == wp.vmf ? slot->entered_ns : 0);
	slot->tid = 0;
	return 0;
}

KRETFUNC_PROBE(finish_fault)
{
	u64 vmf = ctx[0];
	u32 flags = read_u32(vmf, VMF_FLAGS);

	if (flags & FAULT_FLAG_WRITE)
		account_finish_fault(vmf, ctx[1], flags);
	return 0;
}

#endif /* FENTRY_H */
