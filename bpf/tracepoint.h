/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tracepoint plan, for kernels without kprobes. A copy is a write-protection
 * fault inside which the same thread allocates a movable page. A fault without
 * this allocation re-marked the page, if the page table says that it was to be
 * made writable (predict.h).
 */
#ifndef TRACEPOINT_H
#define TRACEPOINT_H

#include "detail.h"
#include "predict.h"

struct pending {
	u64 address;
	u64 vma;	/* 0: unknown */
	u64 regs;	/* struct pt_regs * of the interrupted code, on the kernel stack */
	u64 ip;		/* in regs: the instruction that faulted */
	u32 tid;
	u8 class;	/* enum write_class */
	u8 origin;
	u8 source;	/* as predicted, as the next one */
	u8 re_marked;
	u8 counted;	/* 1: as REUSED, which is taken back when a page is allocated */
	u8 pad[7];
#ifdef NEEDS_PLACE
	struct detail_key detail;	/* that the fault counts in, until a page is allocated */
	u64 user_stack;	/* read when the fault began */
#endif
};

/* By the low bits of the thread id; an array for the reasons in pair.h. */
BPF_ARRAY(pending_faults, struct pending, SLOTS);

#ifdef NEEDS_PLACE
#define keep_user_stack(pending, stack) ((pending)->user_stack = (stack))

/* After add_to_sum(), the other steps of count_fault(), as the fault begins. */
INLINE void count_beginning(void *ctx, struct pending *pending, const struct fault_key *key,
			    u64 vma)
{
	__builtin_memset(&pending->detail, 0, sizeof(pending->detail));
	set_place(&pending->detail, key->tgid, vma);
	count_detail(ctx, &pending->detail, key, STACK_NOW, 0, 0);
	send_event(key, pending->address, pending->detail.mapping, 0, 0,
		   key->kind == REUSED ? EVENT_UNDECIDED : 0);
}

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
		set_place(&pending->detail, key->tgid, vma);
	}
	count_detail(ctx, &pending->detail, key,
		     pending->class == MISSING ? STACK_NOW : pending->user_stack, bytes, 0);
	take_sample(key, &pending->detail, pending->address);
	send_event(key, pending->address, pending->detail.mapping, bytes, 0, 0);
}
#else
#define keep_user_stack(pending, stack)
INLINE void count_beginning(void *ctx, struct pending *pending, const struct fault_key *key,
			    u64 vma) {}
INLINE void take_detail_back(struct pending *pending, const struct fault_key *reused) {}
INLINE void count_allocation(void *ctx, struct pending *pending, const struct fault_key *key,
			     u64 vma, u64 bytes) {}
#endif

#ifdef USER_STACKS
/*
 * Walk the stack before the kernel reads the page-table entry: the walk reads
 * user memory, perhaps the faulting page: see read_dump() in sample.h. Walk it
 * before `pending` is filled: where nothing is mapped, the walk itself faults,
 * page_fault_kernel sees that fault, and the pending one would look lost.
 */
INLINE u64 note_stack_before_fault(void *ctx, u32 tgid, u64 error_code, u8 origin)
{
	if (origin == ORIGIN_USER && error_code & PF_WRITE && error_code & PF_PROT &&
	    is_wanted(tgid))
		return note_stack(ctx, BPF_F_USER_STACK, tgid);
	return 0;
}
#else
INLINE u64 note_stack_before_fault(void *ctx, u32 tgid, u64 error_code, u8 origin) { return 0; }
#endif

INLINE void fault_begins(void *ctx, u64 address, u64 regs, u64 error_code, u8 origin)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct pending *pending = pending_faults.lookup(&index);
	struct fault_key key = { .tgid = current_tgid(), .origin = origin };
	struct prediction write;
	u64 user_stack;

	if (!pending)
		return;
	user_stack = note_stack_before_fault(ctx, key.tgid, error_code, origin);
	/*
	 * Another BPF program, or perf, can read user memory inside a fault, for example
	 * a stack. The kernel does not handle that fault; it must not hide the pending one.
	 */
	if (origin == ORIGIN_KERNEL &&
	    read_kernel_u32(bpf_get_current_task(), TASK_PAGEFAULT_DISABLED) > READ_DISABLES_FAULTS)
		return;
	pending->tid = tid;
	pending->class = NOTHING;
	pending->regs = regs;
	pending->ip = read_kernel_u64(regs, REGS_IP);
	if ((error_code & (PF_WRITE | PF_PK)) != PF_WRITE || address >> 63)
		return;		/* a read, a signal, or the kernel's own memory */
	if (!in_region(address) || !is_wanted(key.tgid))
		return;
	pending->address = address;
	pending->origin = origin;
	pending->counted = 0;
	keep_user_stack(pending, user_stack);
	write = predict(address, error_code);
	pending->class = write.class;
	pending->vma = write.vma;
	pending->source = write.source;
	pending->re_marked = write.re_marked;
	if (write.kind == NO_KIND)
		return;
	pending->counted = write.kind == REUSED;
	key.kind = write.kind;
	key.source = write.kind == REUSED ? write.re_marked : write.source;
	add_to_sum(&key, 0, 1, 0, ANYWHERE);
	count_beginning(ctx, pending, &key, write.vma);
}

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
	if (page && read_kernel_u64(bpf_get_current_task(), TASK_MM) && is_wanted(current_tgid()))
		count_loss(gfp & GFP_ZERO ? COUNT_ZEROED_OUTSIDE_FAULTS : COUNT_OUTSIDE_FAULTS);
}

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
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct pending *pending = pending_faults.lookup(&index);
	u64 page = ctx->args[0], gfp = ctx->args[2];
	u32 order = ctx->args[1];
	struct fault_key key = {};
	u64 vma;

	if (!pending || !(gfp & GFP_MOVABLE) || !is_new_page(pending, page, order))
		return 0;	/* a page table, not user memory */
	if (pending->tid != tid || !inside_fault(pending, (u64)ctx)) {	/* ctx is on the stack */
		if (pending->tid == tid)
			pending->class = NOTHING;
		if (!order)
			count_outside_faults(page, gfp);
		return 0;
	}
	if (pending->class == NOTHING)
		return 0;
	key.tgid = current_tgid();
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
	u32 tid = current_tid(), index = tid & (SLOTS - 1), tgid = current_tgid();
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

#endif /* TRACEPOINT_H */
