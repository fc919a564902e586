/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tracepoints of page faults. The tracepoint plan begins there; with the
 * option page_faults, every plan counts all page faults, copy-on-write or not.
 */
#ifndef PAGE_FAULTS_H
#define PAGE_FAULTS_H

#include "filter.h"
#include "written_address.h"

#ifdef PAGE_FAULTS

/*
 * One program can preempt another on the same CPU where a thread can be preempted
 * inside a program (fentry, and tracepoints of 7.x, on a preemptible kernel).
 */
#ifdef PREEMPTIBLE
#define increase(counter, by) atomic_add(&(counter), by)
#else
#define increase(counter, by) ((counter) += (by))
#endif

/* One per process and round. When it is full, LOSS_PAGE_FAULTS_FULL. */
BPF_PERCPU_HASH(page_faults, struct page_fault_key, struct page_fault_sum, MAP_SIZE);

INLINE void count_page_fault(u64 error_code, u8 origin)
{
	struct page_fault_sum zero = {}, *sum;
	struct page_fault_key key = { .tgid = current_tgid(), .half = current_round() & 1 };

	if (!is_wanted(key.tgid))
		return;
	sum = page_faults.lookup(&key);
	if (!sum) {
		note_process(key.tgid, 0);
		page_faults.insert(&key, &zero);
		sum = page_faults.lookup(&key);
	}
	if (!sum) {
		count_loss(LOSS_PAGE_FAULTS_FULL);
		return;
	}
	if (origin == ORIGIN_USER)
		increase(sum->user, 1);
	else
		increase(sum->kernel, 1);
	if ((error_code & (PF_PROT | PF_WRITE)) == (PF_PROT | PF_WRITE))
		increase(sum->write_protect, 1);
}
#else
INLINE void count_page_fault(u64 error_code, u8 origin) {}
#endif

#ifndef PLAN_TRACEPOINT
INLINE void fault_begins(void *ctx, u64 address, u64 regs, u64 error_code, u8 origin) {}
#endif

#if defined(PAGE_FAULTS) || defined(NOTED_ADDRESSES) || defined(PLAN_TRACEPOINT)
/* exceptions:page_fault_user(address, regs, error_code) */
RAW_TRACEPOINT_PROBE(page_fault_user)
{
	count_page_fault(ctx->args[2], ORIGIN_USER);
	note_address(ctx->args[0]);
	fault_begins(ctx, ctx->args[0], ctx->args[1], ctx->args[2], ORIGIN_USER);
	return 0;
}

/* exceptions:page_fault_kernel(address, regs, error_code) */
RAW_TRACEPOINT_PROBE(page_fault_kernel)
{
	count_page_fault(ctx->args[2], ORIGIN_KERNEL);
	note_address(ctx->args[0]);
	fault_begins(ctx, ctx->args[0], ctx->args[1], ctx->args[2], ORIGIN_KERNEL);
	return 0;
}
#endif

#endif /* PAGE_FAULTS_H */
