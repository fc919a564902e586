// SPDX-License-Identifier: GPL-2.0-only
/*
 * The program that BCC compiles. PLAN_KPROBE, PLAN_FENTRY or PLAN_TRACEPOINT
 * chooses how faults are seen; their counts mean the same.
 */
#if defined(PLAN_KPROBE)
#include "kprobe.h"
#elif defined(PLAN_FENTRY)
#include "fentry.h"
#elif defined(PLAN_TRACEPOINT)
#include "tracepoint.h"
#endif

#include "page_faults.h"
#if HUGE_PAGES
#include "huge.h"
#endif
#if FORK_COPIES
#include "fork.h"
#endif
#include "process.h"
