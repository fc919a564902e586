/* SPDX-License-Identifier: GPL-2.0-only */
/* Classify a fault when its kernel function returns, and count it: kprobe and fentry plan. */
#ifndef ACCOUNT_H
#define ACCOUNT_H

#include "classify.h"
#include "detail.h"
#include "lost_race.h"

/* do_wp_page() returns: a write to a page that is present and not writable. */
INLINE void account_wp(void *ctx, const struct wp_result *wp, u32 current, u64 entered)
{
	struct fault_key key = {};
	u64 bytes = 0, task;

	if (!in_region(wp->address))
		return;
	key.kind = classify_wp(wp);
	key.origin = origin_of(wp->flags);
	task = charge(&key, current, wp->vma, wp->flags);
	if (key.kind == COPIED && wp->mm_users > 1 &&
	    lost_race(key.tgid, wp->address, pte_frame(wp->after), entered))
		key.kind = UNCHANGED;

	switch (key.kind) {
	case COPIED:
		/* do_wp_page() left the old page in vmf->page; NULL for the zero page. */
		if (wp->page || wp->vm_flags & VM_PFNMAP) {
			key.source = source_of(wp->page);
			/*
			 * When its last holder copies a merged page, the page is freed before
			 * this reads it. No other page is copied for its only holder.
			 */
			if (key.source == SOURCE_UNKNOWN && wp->vm_flags & VM_MERGEABLE)
				key.source = SOURCE_KSM;
		} else {
			key.kind = ZERO_FILLED;
			key.source = SOURCE_ZERO;
		}
		bytes = PAGE_SIZE;
		break;
	case REUSED:
		key.source = SOURCE_ANON;	/* only anonymous pages can be exclusive */
		break;
	case SHARED:
		key.source = SOURCE_FILE;
		break;
	}
	count_fault(ctx, &key, task, wp->vma, wp->address, bytes);
}

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
	count_fault(ctx, &key, task, vma, address, bytes);
}

#endif /* ACCOUNT_H */
