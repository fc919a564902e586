/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tracepoint plan: what a fault that has begun becomes. A page that is allocated
 * makes it a copy; a signal forbids its write; else it stays what it was counted as.
 */
#ifndef ALLOCATION_H
#define ALLOCATION_H

#include "tracepoint.h"

/*
 * No tracepoint marks the end of a fault. Inside the fault, the kernel stack has
 * grown beyond the registers that the exception saved, and they are unchanged:
 * orig_ax is -1. After the fault, a system call or other frames overwrote them.
 */
INLINE int inside_fault(const struct pending *pending, u64 stack)
{
	return stack < pending->regs &&
	       read_kernel_u64(pending->regs, REGS_ORIG_AX) == -1ULL &&
	       read_kernel_u64(pending->regs, REGS_IP) == pending->ip;
}

/*
 * do_cow_fault() allocates a page before it looks for the file's page. The first
 * write to shared memory and a swap-in also allocate, but copy nothing. Where nothing
 * was predicted, only the mapping distinguishes them.
 */
INLINE int is_private_file(u64 vma)
{
#ifdef MM_MT
	return vma && read_kernel_u64(vma, VMA_FILE) && !(read_kernel_u64(vma, VMA_FLAGS) & VM_SHARED);
#else
	return 0;	/* this plan does not see FILE_COPIED: cowtrace/kernel/limits.py */
#endif
}

/*
 * The vma of the pending fault. As noted before the fault locked it: another thread can
 * have changed the mappings just then, and the name is that of an earlier one.
 */
INLINE u64 pending_vma(const struct pending *pending)
{
	if (pending->vma)
		return pending->vma;
	return pending->class == MISSING ? current_vma(pending->address) :
					   vma_to_note(pending->address);
}

/*
 * A page for user memory that a thread allocates outside any fault. When the kernel
 * makes a fault inside a system call (mlock, madvise, mremap), no exception is raised.
 * A copy takes such a page, and so does the page cache; the zero page gives way to a
 * page of zeroes, and so does nothing (the first touch): upper bounds of what this plan
 * does not see. In any address: REGION_START does not matter.
 */
INLINE void count_outside_faults(u64 page, u64 gfp)
{
	if (!page || !read_kernel_u64(bpf_get_current_task(), TASK_MM) || !is_wanted(current_tgid()))
		return;
	count_loss(gfp & GFP_ZERO ? COUNT_ZEROED_OUTSIDE_FAULTS : COUNT_OUTSIDE_FAULTS);
	if (!(gfp & GFP_ZERO))
		note_fork_copy(1);	/* inside a fork, nothing else takes one */
}

#ifdef NEEDS_PLACE
/* After the sum of `reused`: a round can have begun in this fault. */
INLINE void take_detail_back(struct pending *pending, const struct fault_key *reused)
{
	pending->detail.half = reused->half;
	add_detail(&pending->detail, TAKEN_BACK, 0, 0);
}

/* As count_beginning(), when a page is allocated. */
INLINE void count_allocation(void *ctx, struct pending *pending, const struct fault_key *key,
			     u64 vma, u64 bytes)
{
	if (!pending->counted) {
		__builtin_memset(&pending->detail, 0, sizeof(pending->detail));
		set_place(&pending->detail, key->tgid, vma, pending->address);
	}
	count_detail(ctx, &pending->detail, key,
		     pending->class == MISSING ? STACK_NOW : pending->user_stack, bytes, 0);
	take_sample(key, &pending->detail, pending->address, pending->address);
	send_event(key, pending->address, pending->detail.mapping, bytes, 0, EVENT_DECIDED);
}
#else
INLINE void take_detail_back(struct pending *pending, const struct fault_key *reused) {}
INLINE void count_allocation(void *ctx, struct pending *pending, const struct fault_key *key,
			     u64 vma, u64 bytes) {}
#endif

/* The pending fault, counted as REUSED, is none. */
INLINE void take_re_mark_back(struct pending *pending, u32 tgid)
{
	struct fault_key reused = { .tgid = tgid, .kind = REUSED, .source = pending->re_marked,
				    .origin = pending->origin };

	add_to_sum(&reused, 0, TAKEN_BACK, 0, ANYWHERE);
	take_detail_back(pending, &reused);
}

/* A write to a page that was present takes a new one, or fails to: what the fault is. */
INLINE void page_replaced(void *ctx, struct pending *pending, struct fault_key *key, u64 vma,
			  u64 page, u64 gfp, u32 order)
{
	u64 bytes = page ? PAGE_SIZE << order : 0;

	key->source = pending->source;
	if (!page) {
		key->kind = FAILED;
	} else if (order) {
		key->kind = ZERO_FILLED;	/* in place of the huge zero page */
		key->source = SOURCE_THP;
	} else if (gfp & GFP_ZERO) {
		key->kind = ZERO_FILLED;
		key->source = SOURCE_ZERO;
	} else {
		key->kind = COPIED;
	}
	if (pending->counted)
		take_re_mark_back(pending, key->tgid);
	add_to_sum(key, 0, 1, bytes, ANYWHERE);
	count_allocation(ctx, pending, key, vma, bytes);
}

/* Whether these pages can be the new one of the pending write. */
INLINE int is_new_page(const struct pending *pending, u64 page, u32 order)
{
	if (!order)
		return 1;
	/* If there is no huge page, the kernel takes a small one. */
	return page && PAGE_SIZE << order == PMD_SIZE && pending->class == WRITE_PROTECT &&
	       pending->source == SOURCE_ZERO;
}

/* kmem:mm_page_alloc(page, order, gfp_flags, migratetype) */
RAW_TRACEPOINT_PROBE(mm_page_alloc)
{
	u64 page = ctx->args[0], gfp = ctx->args[2], vma, id;
	u32 order = ctx->args[1], tid, index;
	struct fault_key key = {};
	struct pending *pending;

	if (!(gfp & GFP_MOVABLE))
		return 0;	/* not user memory: most pages of the kernel */
	id = bpf_get_current_pid_tgid();
	tid = id;
	index = tid & (SLOTS - 1);
	pending = pending_faults.lookup(&index);
	if (!pending || !is_new_page(pending, page, order))
		return 0;
	if (pending->tid != tid || !inside_fault(pending, (u64)ctx)) {	/* ctx is on the stack */
		if (pending->tid == tid)
			pending->class = NOTHING;
		if (!order)
			count_outside_faults(page, gfp);
		return 0;
	}
	if (pending->class == NOTHING)
		return 0;
	key.tgid = id >> 32;
	key.origin = pending->origin;
	vma = pending_vma(pending);
	if (pending->class == WRITE_PROTECT) {
		page_replaced(ctx, pending, &key, vma, page, gfp, order);
	} else if (!(gfp & GFP_ZERO) && is_private_file(vma)) {
		key.kind = page ? FILE_COPIED : FAILED;
		key.source = SOURCE_FILE;
		add_to_sum(&key, 0, 1, page ? PAGE_SIZE : 0, ANYWHERE);
		count_allocation(ctx, pending, &key, vma, page ? PAGE_SIZE : 0);
	}
	pending->class = NOTHING;
	return 0;
}

#ifdef PAGE_TABLE
#define SIGSEGV 11

/*
 * signal:signal_generate(signal, info, task, ...): the mapping forbids the pending write. So
 * no mapping need be looked up for a page that the process alone has.
 */
RAW_TRACEPOINT_PROBE(signal_generate)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 tid = id, index = tid & (SLOTS - 1), tgid = id >> 32;
	struct pending *pending = pending_faults.lookup(&index);
	struct fault_key key = { .tgid = tgid, .kind = REUSED };

	if (!pending || (u32)ctx->args[0] != SIGSEGV || ctx->args[2] != bpf_get_current_task())
		return 0;
	if (pending->tid != tid || pending->class != WRITE_PROTECT || !pending->counted ||
	    !inside_fault(pending, (u64)ctx))
		return 0;
	take_re_mark_back(pending, tgid);
	send_event(&key, pending->address, 0, 0, 0, EVENT_TAKEN_BACK);
	pending->class = NOTHING;
	return 0;
}
#endif

#endif /* ALLOCATION_H */
