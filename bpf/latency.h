/* SPDX-License-Identifier: GPL-2.0-only */
/* Time faults: from handle_mm_fault() to the return of the function that resolves the fault. */
#ifndef LATENCY_H
#define LATENCY_H

#include "count.h"

#ifdef LATENCY

struct fault_start {
	u64 at_ns;	/* CLOCK_MONOTONIC */
	u64 flush_at_ns;	/* of the flush of the TLB that runs; 0: none */
	u64 tlb_flush_ns;	/* in earlier ones of this fault */
	u32 tid;
	u32 pad;
};

/* By the low bits of the thread id, as in pair.h. A fault is not timed if its slot was reused. */
BPF_ARRAY(fault_starts, struct fault_start, SLOTS);

INLINE void note_fault_start(void)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct fault_start *start = fault_starts.lookup(&index);

	if (!start)
		return;
	start->tid = tid;
	start->flush_at_ns = 0;
	start->tlb_flush_ns = 0;
	start->at_ns = bpf_ktime_get_ns();
}

/* That of the current thread's latest fault; NULL: unknown. */
INLINE struct fault_start *current_fault_start(void)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct fault_start *start = fault_starts.lookup(&index);

	return start && start->tid == tid ? start : 0;
}

/* ns since the current thread's fault began; 0: its start is unknown. */
INLINE u64 ns_since_fault_start(void)
{
	struct fault_start *start = current_fault_start();

	return start ? bpf_ktime_get_ns() - start->at_ns : 0;
}

/* 1 + the position of the highest bit that is set; 0 for 0. */
INLINE u8 log2_slot(u64 ns)
{
	u64 slot = 0, shift, step;

	/* No branches: the verifier would follow each of them, in each round of the loop. */
	for (shift = 32; shift; shift >>= 1) {
		step = (((1ULL << shift) - 1 - ns) >> 63) * shift;
		ns >>= step;
		slot += step;
	}
	return ns ? slot + 1 : 0;
}

#ifdef PLAN_FENTRY
KFUNC_PROBE(handle_mm_fault)
#else
int handle_mm_fault_enter(struct pt_regs *ctx)
#endif
{
	note_fault_start();
	return 0;
}

#ifdef TLB_FLUSHES
/*
 * Time the flush of the TLB in a fault: of this CPU, and of each CPU that runs another
 * thread of the process, which the kernel interrupts and waits for. Flushes outside of
 * faults are timed, too, and forgotten when the thread's next fault begins.
 */
KFUNC_PROBE(flush_tlb_mm_range)
{
	struct fault_start *start = current_fault_start();

	if (start)
		start->flush_at_ns = bpf_ktime_get_ns();
	return 0;
}

KRETFUNC_PROBE(flush_tlb_mm_range)
{
	struct fault_start *start = current_fault_start();

	if (start && start->flush_at_ns) {
		start->tlb_flush_ns += bpf_ktime_get_ns() - start->flush_at_ns;
		start->flush_at_ns = 0;
	}
	return 0;
}

INLINE u64 tlb_flush_ns(void)
{
	struct fault_start *start = current_fault_start();

	return start ? start->tlb_flush_ns : 0;
}
#else
#define tlb_flush_ns() 0
#endif

#else
#define tlb_flush_ns() 0
#define ns_since_fault_start() 0
#define log2_slot(ns) 0
#endif /* LATENCY */
#endif /* LATENCY_H */
