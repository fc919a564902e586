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
	set_place(&pending->detail, key->tgid, vma, pending->address);
	count_detail(ctx, &pending->detail, key, STACK_NOW, 0, 0);
	send_event(key, pending->address, pending->detail.mapping, 0, 0,
		   key->kind == REUSED ? EVENT_UNDECIDED : EVENT_DECIDED);
}

#else
#define keep_user_stack(pending, stack)
INLINE void count_beginning(void *ctx, struct pending *pending, const struct fault_key *key,
			    u64 vma) {}
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
	u64 id = bpf_get_current_pid_tgid();
	u32 tid = id, index = tid & (SLOTS - 1);
	struct pending *pending = pending_faults.lookup(&index);
	struct fault_key key = { .tgid = id >> 32, .origin = origin };
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

#endif /* TRACEPOINT_H */
