/* SPDX-License-Identifier: GPL-2.0-only */
/* The fentry plan: BPF trampolines see argument and return value at once. */
#ifndef FENTRY_H
#define FENTRY_H

#include "account.h"

/*
 * Without an entry probe a fault's start is not known. A rival's claim on the
 * same frame for the same page older than this is taken for an earlier copy.
 */
#define RACE_WINDOW_NS	100000000ULL

KRETFUNC_PROBE(do_wp_page)
{
	struct wp_result wp = { .vmf = ctx[0], .ret = ctx[1] };
	u64 pte = read_u64(wp.vmf, VMF_PTE);

	wp.vma = read_u64(wp.vmf, VMF_VMA);
	wp.before = read_u64(wp.vmf, VMF_ORIG_PTE);
	wp.after = pte ? read_u64(pte, 0) : wp.before;
	wp.page = read_u64(wp.vmf, VMF_PAGE);
	wp.flags = read_u32(wp.vmf, VMF_FLAGS);
	account_wp(&wp, bpf_ktime_get_ns() - RACE_WINDOW_NS);
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
