/* SPDX-License-Identifier: GPL-2.0-only */
/* The kprobe plan: kprobe + kretprobe, paired by thread. */
#ifndef KPROBE_H
#define KPROBE_H

#include "account.h"

struct inflight {
	u64 vmf;
	u64 entered_ns;	/* 0 when only this thread can fault in the mm */
	u32 tid;	/* 0: free. The idle task has no user memory to fault in. */
	u32 copying;	/* wp_page_copy() was entered */
};

/*
 * An array, where a lookup is a few inlined instructions against hundreds of a
 * hash. A slot serves every thread id with the same low bits; two of them in a
 * fault at the same time are noticed by the tid and counted.
 */
BPF_ARRAY(wp_inflight, struct inflight, SLOTS);
BPF_ARRAY(finish_inflight, struct inflight, SLOTS);

INLINE void enter(struct inflight *slot, u32 tid, u64 vmf)
{
	u64 vma = read_u64(vmf, VMF_VMA);

	if (slot->tid)
		lose(slot->tid == tid ? LOSS_RETURN_MISSED : LOSS_SLOT_TAKEN);
	slot->tid = tid;
	slot->vmf = vmf;
	slot->copying = 0;
	slot->entered_ns = single_threaded(vma) ? 0 : bpf_ktime_get_ns();
	lose(LOSS_ENTERED);
}

INLINE int leave(struct inflight *slot, u32 tid)
{
	if (slot->tid != tid)
		return 0;
	slot->tid = 0;
	lose(LOSS_RETURNED);
	return 1;
}

#ifdef CROSS_CHECK
/* Where wp_page_copy() was not inlined: every copy must have passed through it. */
int wp_page_copy_enter(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = wp_inflight.lookup(&index);

	if (slot && slot->tid == tid)
		slot->copying = 1;
	return 0;
}

INLINE void check_copying(const struct wp_result *wp, u32 copying)
{
	u8 kind;

	if (!in_region(read_u64(wp->vmf, VMF_ADDRESS)))
		return;
	kind = classify_wp(wp, read_u64(wp->vma, VMA_FLAGS));
	if (kind != COPIED && kind != ZERO_FILLED && kind != REUSED)
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

	if (slot)
		enter(slot, tid, PT_REGS_PARM1(ctx));
	return 0;
}

int do_wp_page_return(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = wp_inflight.lookup(&index);
	struct wp_result wp = {};
	u64 pte;

	if (!slot)
		return 0;
	if (!leave(slot, tid)) {
		if (!slot->tid)
			lose(LOSS_ENTRY_MISSED);
		return 0;
	}
	wp.vmf = slot->vmf;
	wp.vma = read_u64(wp.vmf, VMF_VMA);
	wp.before = read_u64(wp.vmf, VMF_ORIG_PTE);
	pte = read_u64(wp.vmf, VMF_PTE);
	/* NULL when the page table itself went away meanwhile: nothing was done. */
	wp.after = pte ? read_u64(pte, 0) : wp.before;
	wp.page = read_u64(wp.vmf, VMF_PAGE);
	wp.flags = read_u32(wp.vmf, VMF_FLAGS);
	wp.ret = PT_REGS_RC(ctx);
	account_wp(&wp, slot->entered_ns);
#ifdef CROSS_CHECK
	check_copying(&wp, slot->copying);
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
	if (slot)
		enter(slot, tid, vmf);
	return 0;
}

int finish_fault_return(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = finish_inflight.lookup(&index);

	/* Reads were not entered: a free slot is no loss here. */
	if (slot && leave(slot, tid))
		account_finish_fault(slot->vmf, PT_REGS_RC(ctx),
				     read_u32(slot->vmf, VMF_FLAGS));
	return 0;
}

#endif /* KPROBE_H */
