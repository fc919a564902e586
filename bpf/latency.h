/* SPDX-License-Identifier: GPL-2.0-only */
/* The time in a fault: from handle_mm_fault() to the end of what resolved it. */
#ifndef LATENCY_H
#define LATENCY_H

#include "count.h"

#ifdef LATENCY

struct begun {
	u64 at_ns;	/* CLOCK_MONOTONIC */
	u32 tid;
	u32 pad;
};

/* By the low bits of the thread id, as in pair.h; one that was overwritten is not timed. */
BPF_ARRAY(begun_faults, struct begun, SLOTS);

INLINE void note_begin(void)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct begun *begun = begun_faults.lookup(&index);

	if (!begun)
		return;
	begun->tid = tid;
	begun->at_ns = bpf_ktime_get_ns();
}

/* Since the current thread's fault began; 0: that was not seen. */
INLINE u64 ns_in_fault(void)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct begun *begun = begun_faults.lookup(&index);

	return begun && begun->tid == tid ? bpf_ktime_get_ns() - begun->at_ns : 0;
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
{
	note_begin();
	return 0;
}
#else
int handle_mm_fault_enter(struct pt_regs *ctx)
{
	note_begin();
	return 0;
}
#endif

#endif /* LATENCY */
#endif /* LATENCY_H */
