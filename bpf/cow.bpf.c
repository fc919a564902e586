// SPDX-License-Identifier: GPL-2.0-only
/*
 * The program that BCC compiles. Its plan chooses how faults are seen: PLAN_FENTRY by BPF
 * trampolines, PLAN_KPROBE by kprobes at the same functions, PLAN_TRACEPOINT by tracepoints.
 * Their counts mean the same.
 */
#ifdef PLAN_TRACEPOINT
#include "allocation.h"
#else
#ifdef PTE_CHANGES
#include "pte_change.h"
#ifdef NO_ACCESS
#include "no_access.h"
#endif
#else
#include "wp_page.h"
#endif
#include "finish_fault.h"
#endif

#include "page_faults.h"
#if HUGE_PAGES
#include "huge.h"
#endif
#if FORK_COPIES
#include "fork.h"
#endif
#include "process.h"
