// SPDX-License-Identifier: GPL-2.0-only
/*
 * The one program that BCC compiles. PLAN_KPROBE, PLAN_FENTRY or
 * PLAN_TRACEPOINT chooses how faults are seen; what they mean is the same.
 */
#include "process.h"

#if defined(PLAN_KPROBE)
#include "kprobe.h"
#elif defined(PLAN_FENTRY)
#include "fentry.h"
#elif defined(PLAN_TRACEPOINT)
#include "tracepoint.h"
#endif

#if HUGE_PAGES
#include "huge.h"
#endif
#if FORK_COPIES
#include "fork.h"
#endif

INLINE void count_page_fault(u64 error_code, int user)
{
	struct page_fault_sum zero = {}, *sum;
	u32 tgid = current_tgid();

	sum = page_faults.lookup(&tgid);
	if (!sum) {
		introduce(tgid, 0);
		page_faults.insert(&tgid, &zero);
		sum = page_faults.lookup(&tgid);
	}
	if (!sum) {
		lose(LOSS_PAGE_FAULTS_FULL);
		return;
	}
	if (user)
		sum->user++;
	else
		sum->kernel++;
	if ((error_code & (PF_PROT | PF_WRITE)) == (PF_PROT | PF_WRITE))
		sum->write_protect++;
}

/* exceptions:page_fault_user(address, regs, error_code) */
RAW_TRACEPOINT_PROBE(page_fault_user)
{
	count_page_fault(ctx->args[2], 1);
#ifdef PLAN_TRACEPOINT
	fault_begins(ctx->args[0], ctx->args[1], ctx->args[2], ORIGIN_USER);
#endif
	return 0;
}

/* exceptions:page_fault_kernel(address, regs, error_code) */
RAW_TRACEPOINT_PROBE(page_fault_kernel)
{
	count_page_fault(ctx->args[2], 0);
#ifdef PLAN_TRACEPOINT
	fault_begins(ctx->args[0], ctx->args[1], ctx->args[2], ORIGIN_KERNEL);
#endif
	return 0;
}
