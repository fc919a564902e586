/* SPDX-License-Identifier: GPL-2.0-only */
/* The fentry plan: BPF trampolines see argument and return value at once. */
#ifndef FENTRY_H
#define FENTRY_H

#include "account.h"

KRETFUNC_PROBE(do_wp_page)
{
	struct wp_result wp;

	read_wp_result(&wp, ctx[0], ctx[1]);
	account_wp(&wp, 0);
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
