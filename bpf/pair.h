/* SPDX-License-Identifier: GPL-2.0-only */
/* Entry and return of one function by one thread, paired for kprobes. */
#ifndef PAIR_H
#define PAIR_H

#include "count.h"

struct inflight {
	u64 vmf;	/* struct vm_fault *; of hugetlb's older functions, the vma */
	u64 entry;	/* page-table entry *, where it must be remembered */
	u64 before;	/* its value on entry, likewise */
	u64 address;	/* that faulted, likewise */
	u64 entered;	/* next_claim() on entry, where races are told */
	u32 tid;	/* 0: free. The idle task has no user memory to fault in. */
	u32 flags;	/* enum fault_flag, where it must be remembered */
};

/*
 * An array, where a lookup is a few inlined instructions against hundreds of a
 * hash. A slot serves every thread id with the same low bits; two of them in a
 * fault at the same time are noticed by the tid and counted.
 */
#define INFLIGHT(name) BPF_ARRAY(name, struct inflight, SLOTS)

INLINE void enter(struct inflight *slot, u32 tid)
{
	if (slot->tid)
		lose(slot->tid == tid ? LOSS_RETURN_MISSED : LOSS_SLOT_TAKEN);
	slot->tid = tid;
}

INLINE int leave(struct inflight *slot, u32 tid)
{
	if (slot->tid != tid)
		return 0;
	slot->tid = 0;
	return 1;
}

#endif /* PAIR_H */
