/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tracepoint plan, for kernels without kprobes: a write-protection fault,
 * then the allocation of a movable page by the same thread inside that fault.
 * A fault without such an allocation re-marked the page.
 */
#ifndef TRACEPOINT_H
#define TRACEPOINT_H

#include "detail.h"
#include "vma.h"

enum pending_class {
	NOTHING,	/* a read, or resolved already */
	WRITE_PROTECT,	/* counted as REUSED until a page is allocated */
	MISSING,	/* a write to a page that is not present */
};

struct pending {
	u64 address;
	u64 regs;	/* struct pt_regs * of the interrupted code, on the kernel stack */
	u64 ip;		/* the instruction that faulted, as found there */
	u32 tid;
	u8 class;
	u8 origin;
	u16 pad;
#ifdef TOLD
	struct detail_key detail;	/* under which it is counted until it is known better */
	u64 user_stack;	/* taken when the fault began */
#endif
};

/* By the low bits of the thread id: see pair.h on why this is an array. */
BPF_ARRAY(pending_faults, struct pending, SLOTS);

/* The mapping of an address in the current process, when something asks for it; else 0. */
INLINE u64 vma_at(u64 address)
{
#if defined(MM_MT) && defined(MAPPINGS)
	return find_vma(read_u64(bpf_get_current_task(), TASK_MM), address);
#else
	return 0;
#endif
}

/* Count a fault in its details, and tell of it; `undecided` as in struct event. */
INLINE void tell(void *ctx, struct pending *pending, const struct fault_key *key, u64 bytes,
		 u8 undecided)
{
#ifdef TOLD
	if (undecided || pending->class == MISSING) {
		__builtin_memset(&pending->detail, 0, sizeof(pending->detail));
		set_place(&pending->detail, key->tgid, vma_at(pending->address));
	}
#ifdef DETAILS
	else {
		add_detail(&pending->detail, -1, 0, 0);
	}
	set_kind(&pending->detail, ctx, key,
		 pending->class == MISSING ? STACK_NOW : pending->user_stack);
	add_detail(&pending->detail, 1, bytes, 0);
#endif
#ifdef SAMPLES
	take_sample(key, &pending->detail, pending->address);
#endif
#ifdef EVENTS
	emit(key, pending->address, pending->detail.mapping, bytes, 0, undecided);
#endif
#endif
}

INLINE void fault_begins(void *ctx, u64 address, u64 regs, u64 error_code, u8 origin)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct pending *pending = pending_faults.lookup(&index);
	struct fault_key key = { .tgid = current_tgid(), .kind = REUSED, .origin = origin };
	u64 user_stack = 0;

	if (!pending)
		return;
#ifdef USER_STACKS
	/*
	 * Before the kernel has read the page-table entry: to walk the stack reads
	 * user memory, perhaps that very page: see read_dump() in sample.h. And before
	 * `pending` is filled: where there is no memory, it faults in its turn, which
	 * page_fault_kernel sees; inside of itself that would look like a lost fault.
	 */
	if (origin == ORIGIN_USER && error_code & PF_WRITE && error_code & PF_PROT &&
	    is_wanted(key.tgid))
		user_stack = note_stack(ctx, BPF_F_USER_STACK);
#endif
	/*
	 * Another BPF program, or perf, reads user memory inside of a fault, for a stack
	 * say: that is never handled, and must not hide the fault that is pending.
	 */
	if (origin == ORIGIN_KERNEL &&
	    read_u32(bpf_get_current_task(), TASK_PAGEFAULT_DISABLED) > READ_DISABLES_FAULTS)
		return;
	pending->tid = tid;
	pending->class = NOTHING;
	if (!(error_code & PF_WRITE) || !in_region(address) || !is_wanted(key.tgid))
		return;
	pending->address = address;
	pending->regs = regs;
	pending->ip = read_u64(regs, REGS_IP);
	pending->origin = origin;
#ifdef TOLD
	pending->user_stack = user_stack;
#endif
	pending->class = error_code & PF_PROT ? WRITE_PROTECT : MISSING;
	if (pending->class == WRITE_PROTECT) {
		add_often(&key, 0, 0);
		tell(ctx, pending, &key, 0, 1);
	}
}

/*
 * No tracepoint marks a fault's end. Inside it, the stack has grown beyond the
 * registers that the exception saved, and they are as they were: orig_ax is -1.
 * After it, a system call has saved its own over them, or other frames lie there.
 */
INLINE int inside_fault(const struct pending *pending, u64 stack)
{
	return stack < pending->regs &&
	       read_u64(pending->regs, REGS_ORIG_AX) == -1ULL &&
	       read_u64(pending->regs, REGS_IP) == pending->ip;
}

/*
 * do_cow_fault() allocates before it looks for the file's page; so do the first
 * write to shared memory and a swap-in, which are not copies. Only the mapping
 * tells them apart.
 */
INLINE int private_file(u64 address)
{
#ifdef MM_MT
	u64 vma = find_vma(read_u64(bpf_get_current_task(), TASK_MM), address);

	return vma && read_u64(vma, VMA_FILE) && !(read_u64(vma, VMA_FLAGS) & VM_SHARED);
#else
	return 0;	/* FILE_COPIED is not seen by this plan: cowtrace/kernel/plan.py */
#endif
}

/* kmem:mm_page_alloc(page, order, gfp_flags, migratetype) */
RAW_TRACEPOINT_PROBE(mm_page_alloc)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct pending *pending = pending_faults.lookup(&index);
	u64 page = ctx->args[0], gfp = ctx->args[2];
	u32 order = ctx->args[1];
	struct fault_key key = {};

	if (!pending || pending->tid != tid || pending->class == NOTHING)
		return 0;
	if (order || !(gfp & GFP_MOVABLE))
		return 0;	/* a page table, not user memory */
	if (!inside_fault(pending, (u64)ctx)) {	/* ctx is on the stack */
		pending->class = NOTHING;
		return 0;
	}
	key.tgid = current_tgid();
	key.origin = pending->origin;
	if (pending->class == WRITE_PROTECT) {
		/* User space takes it back from REUSED: cowtrace/tracer/ledger.py. */
		key.kind = !page ? FAILED : gfp & GFP_ZERO ? ZERO_FILLED : COPIED;
		if (key.kind == ZERO_FILLED)
			key.source = SOURCE_ZERO;
		add_often(&key, 0, page ? PAGE_SIZE : 0);
		tell(ctx, pending, &key, page ? PAGE_SIZE : 0, 0);
	} else if (!(gfp & GFP_ZERO) && private_file(pending->address)) {
		key.kind = page ? FILE_COPIED : FAILED;
		key.source = SOURCE_FILE;
		add_often(&key, 0, page ? PAGE_SIZE : 0);
		tell(ctx, pending, &key, page ? PAGE_SIZE : 0, 0);
	}
	pending->class = NOTHING;
	return 0;
}

#endif /* TRACEPOINT_H */
