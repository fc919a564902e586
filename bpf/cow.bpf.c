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

#ifdef PAGE_FAULTS
#include "page_faults.h"
#else
#define count_page_fault(error_code, user)
#endif

#if defined(PAGE_FAULTS) || defined(PLAN_TRACEPOINT)
/* exceptions:page_fault_user(address, regs, error_code) */
RAW_TRACEPOINT_PROBE(page_fault_user)
{
	count_page_fault(ctx->args[2], 1);
#ifdef PLAN_TRACEPOINT
	fault_begins(ctx, ctx->args[0], ctx->args[1], ctx->args[2], ORIGIN_USER);
#endif
	return 0;
}

/* exceptions:page_fault_kernel(address, regs, error_code) */
RAW_TRACEPOINT_PROBE(page_fault_kernel)
{
	count_page_fault(ctx->args[2], 0);
#ifdef PLAN_TRACEPOINT
	fault_begins(ctx, ctx->args[0], ctx->args[1], ctx->args[2], ORIGIN_KERNEL);
#endif
	return 0;
}
#endif
