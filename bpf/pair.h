/* SPDX-License-Identifier: GPL-2.0-only */
/* Pair the entry and the return of a function by one thread, for kprobes. */
#ifndef PAIR_H
#define PAIR_H

#include "count.h"

struct inflight {
	union {
		u64 vmf;	/* struct vm_fault * */
		u64 vma;	/* struct vm_area_struct *, in hugetlb_wp() */
	};
	u64 entry;	/* page-table entry *, in huge.h */
	u64 before;	/* its value on entry, likewise */
	u64 address;	/* that faulted, likewise */
	u64 entered;	/* next_claim() on entry to do_wp_page() */
	u32 tid;	/* 0: free. The idle task has no user memory to fault in. */
	u32 flags;	/* enum fault_flag, in huge.h */
};

/*
 * An array: a lookup takes a few inlined instructions, in a hash hundreds. All
 * thread ids with the same low bits share a slot; the tid shows when two of them
 * are in a fault at the same time, and the loss is counted.
 */
#define INFLIGHT(name) BPF_ARRAY(name, struct inflight, SLOTS)

INLINE void note_entry(struct inflight *slot, u32 tid)
{
	if (slot->tid)
		count_loss(slot->tid == tid ? LOSS_RETURN_MISSED : LOSS_SLOT_TAKEN);
	slot->tid = tid;
}

INLINE int match_return(struct inflight *slot, u32 tid)
{
	if (slot->tid != tid)
		return 0;
	slot->tid = 0;
	return 1;
}

#endif /* PAIR_H */
