/* SPDX-License-Identifier: GPL-2.0-only */
/* Count first writes to pages of files. */
#ifndef FINISH_FAULT_H
#define FINISH_FAULT_H

#include "classify.h"
#include "detail.h"
#include "pair.h"

/*
 * finish_fault() returns from a write: the first touch of a file page, which
 * never enters do_wp_page(). A private page is copied before it is mapped.
 */
INLINE void account_finish_fault(void *ctx, u64 vmf, u32 ret, u32 flags)
{
	struct fault_key key = { .kind = FAILED };
	u64 fault = kernel_pointer(vmf), vma = load_kernel_u64(fault, VMF_VMA);
	u64 address = load_kernel_u64(fault, VMF_ADDRESS);
	u64 vm_flags = load_kernel_u64(kernel_pointer(vma), VMA_FLAGS);
	/* Not load_kernel_u64(): clang ORs the pointer with vm_flags, which the verifier refuses. */
	int private = read_kernel_u64(vmf, VMF_COW_PAGE) != 0;
	u64 bytes = 0, task;

	if (!in_region(address))
		return;
	if (!private && !(vm_flags & VM_SHARED))
		return;
	key.origin = origin_of(flags);
	task = charge(&key, current_tgid(), vma, flags);
	if (ret & VM_FAULT_NOPAGE) {
		key.kind = UNCHANGED;	/* another thread mapped it first */
	} else if (!(ret & VM_FAULT_ERROR)) {
		key.kind = private ? FILE_COPIED : SHARED;
		key.source = SOURCE_FILE;
		bytes = private ? PAGE_SIZE : 0;
	}
	if (is_counted(key.kind))
		count_fault(ctx, &key, task, vma, written_address(vmf, address), bytes, ANYWHERE);
}

#ifdef PLAN_FENTRY
KRETFUNC_PROBE(finish_fault)
{
	u64 vmf = ctx[0];
	u32 flags = load_kernel_u32(vmf, VMF_FLAGS);

	if (flags & FAULT_FLAG_WRITE)
		account_finish_fault(ctx, vmf, ctx[1], flags);
	return 0;
}

#else	/* kprobes */
INFLIGHT(finish_inflight);

int finish_fault_enter(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	u64 vmf = PT_REGS_PARM1(ctx);
	struct inflight *slot;

	if (!(read_kernel_u32(vmf, VMF_FLAGS) & FAULT_FLAG_WRITE))
		return 0;
	slot = finish_inflight.lookup(&index);
	if (!slot)
		return 0;
	note_entry(slot, tid);
	slot->vmf = vmf;
	return 0;
}

int finish_fault_return(struct pt_regs *ctx)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = finish_inflight.lookup(&index);

	/* Entries of reads were not noted: a free slot is not a loss here. */
	if (slot && match_return(slot, tid))
		account_finish_fault(ctx, slot->vmf, PT_REGS_RC(ctx),
				     read_kernel_u32(slot->vmf, VMF_FLAGS));
	return 0;
}

#endif
#endif /* FINISH_FAULT_H */
