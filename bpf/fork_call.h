/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a fork costs its parent, up to sched_process_fork: then the child is complete and
 * has not run yet. It begins with kernel_clone(). The tracepoint plan has no program there.
 * A new mm takes per-CPU memory right before the parent's page tables are copied, since
 * "mm: convert mm's rss stats into percpu_counter" (6.2), and the kernel takes such memory
 * rarely: what comes before, which does not grow with the parent's memory, is missing.
 */
#ifndef FORK_CALL_H
#define FORK_CALL_H

#include "kernel.h"

struct fork_cost {
	u64 ns;		/* 0: unknown, as lock_ns */
	u64 lock_ns;	/* of these, the parent's mmap lock was held for writing */
	u64 copied_pages;	/* by fork itself, since they are pinned; -1: unknown */
};

#ifdef FORK_TIMES
#define FORK_SLOTS (1 << 12)

struct fork_call {
	u64 at_ns;	/* CLOCK_MONOTONIC, as the next one; 0: none */
	u64 locked_at_ns;
	u64 lock_ns;
	u64 copied_pages;
	u32 tid;
	u32 pad;
};

/* By the low bits of the thread id. Fewer than in pair.h: two that share one rarely fork at once. */
BPF_ARRAY(fork_calls, struct fork_call, FORK_SLOTS);

/* That of the current thread; NULL: it has noted none. */
INLINE struct fork_call *current_fork_call(void)
{
	u32 tid = current_tid(), index = tid & (FORK_SLOTS - 1);
	struct fork_call *call = fork_calls.lookup(&index);

	return call && call->tid == tid && call->at_ns ? call : 0;
}

INLINE void note_fork_call(void)
{
	u32 tid = current_tid(), index = tid & (FORK_SLOTS - 1);
	struct fork_call *call = fork_calls.lookup(&index);

	if (!call)
		return;
	call->tid = tid;
	call->locked_at_ns = 0;
	call->lock_ns = 0;
	call->copied_pages = 0;
	call->at_ns = bpf_ktime_get_ns();
}

#if defined(PLAN_FENTRY)
KFUNC_PROBE(kernel_clone)
#elif defined(PLAN_KPROBE)
int kernel_clone_enter(struct pt_regs *ctx)
#else
RAW_TRACEPOINT_PROBE(percpu_alloc_percpu)
#endif
{
	note_fork_call();
	return 0;
}

#ifdef FORK_LOCKS
/* dup_mmap(), which may be inlined, calls it as soon as it holds the parent's mmap lock. */
#ifdef PLAN_FENTRY
KFUNC_PROBE(uprobe_dup_mmap)
#else
int uprobe_dup_mmap_enter(struct pt_regs *ctx)
#endif
{
	struct fork_call *call = current_fork_call();

	if (call)
		call->locked_at_ns = bpf_ktime_get_ns();
	return 0;
}

/* And this one once it has released the lock. */
#ifdef PLAN_FENTRY
KFUNC_PROBE(uprobe_end_dup_mmap)
#else
int uprobe_end_dup_mmap_enter(struct pt_regs *ctx)
#endif
{
	struct fork_call *call = current_fork_call();

	if (call && call->locked_at_ns)
		call->lock_ns = bpf_ktime_get_ns() - call->locked_at_ns;
	return 0;
}
#endif

/* Fork copies a page at once. */
INLINE void note_fork_copy(u64 pages)
{
	struct fork_call *call = current_fork_call();

	if (call)
		call->copied_pages += pages;
}

/* In sched_process_fork, of each new thread as well: no later fork must find this call. */
INLINE void take_fork_cost(struct fork_cost *cost)
{
	struct fork_call *call = current_fork_call();

	if (!call)
		return;
	cost->ns = bpf_ktime_get_ns() - call->at_ns;
	cost->lock_ns = call->lock_ns;
#if defined(PLAN_TRACEPOINT) || defined(FORK_COPIES)
	cost->copied_pages = call->copied_pages;
#endif
	call->at_ns = 0;
}
#else
INLINE void note_fork_copy(u64 pages) {}
INLINE void take_fork_cost(struct fork_cost *cost) {}
#endif /* FORK_TIMES */
#endif /* FORK_CALL_H */
