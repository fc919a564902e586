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

/* Where wp_page_copy() was not inlined: every copy must have passed through it. */
int wp_page_copy_enter(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = wp_inflight.lookup(&index);

	if (slot && slot->tid == tid)
		slot->flags |= COPYING;
	return 0;
}

INLINE void check_copying(const struct wp_result *wp, int copying)
{
	u8 kind;

	if (!in_region(wp->address))
		return;
	kind = classify_wp(wp);
	if (kind != COPIED && kind != REUSED)
		return;
	lose(LOSS_CHECKED);
	if (copying != (kind != REUSED))
		lose(LOSS_CHECK_FAILED);
}
#endif

/* The members of struct vm_fault, by one call instead of seven. */
INLINE void read_wp_result(struct wp_result *wp, u64 vmf, u32 ret)
{
	u8 copy[VMF_BYTES];
	u64 pte;

	bpf_probe_read_kernel(copy, sizeof(copy), (void *)vmf);
	wp->vmf = vmf;
	wp->vma = *(u64 *)(copy + VMF_VMA);
	wp->address = *(u64 *)(copy + VMF_ADDRESS);
	wp->before = *(u64 *)(copy + VMF_ORIG_PTE);
	wp->flags = *(u32 *)(copy + VMF_FLAGS);
	pte = *(u64 *)(copy + VMF_PTE);
	wp->after = pte ? read_u64(pte, 0) : wp->before;
	wp->ret = ret;
	wp->vm_flags = read_u64(wp->vma, VMA_FLAGS);
	/* Only a copy can have been raced for. */
	wp->mm_users = pte_frame(wp->before) == pte_frame(wp->after) ?
		       1 : read_u32(read_u64(wp->vma, VMA_MM), MM_USERS);
}

int do_wp_page_enter(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = wp_inflight.lookup(&index);
	u64 vmf = PT_REGS_PARM1(ctx);

	if (!slot)
		return 0;
	enter(slot, tid);
	slot->vmf = vmf;
	slot->flags = 0;
	slot->entered = next_claim();
	return 0;
}

int do_wp_page_return(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = wp_inflight.lookup(&index);
	struct wp_result wp;

	if (!slot)
		return 0;
	if (!leave(slot, tid)) {
		if (!slot->tid)
			lose(LOSS_ENTRY_MISSED);
		return 0;
	}
	read_wp_result(&wp, slot->vmf, PT_REGS_RC(ctx));
	account_wp(ctx, &wp, slot->entered);
#ifdef CROSS_CHECK
	check_copying(&wp, slot->flags & COPYING ? 1 : 0);
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
	if (!slot)
		return 0;
	enter(slot, tid);
	slot->vmf = vmf;
	return 0;
}

int finish_fault_return(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = finish_inflight.lookup(&index);

	/* Reads were not entered: a free slot is no loss here. */
	if (slot && leave(slot, tid))
		account_finish_fault(ctx, slot->vmf, PT_REGS_RC(ctx),
				     read_u32(slot->vmf, VMF_FLAGS));
	return 0;
}

#endif /* KPROBE_H */
