/* SPDX-License-Identifier: GPL-2.0-only */
/* Note forks, names and exits of processes, from tracepoints that every plan has. */
#ifndef PROCESS_H
#define PROCESS_H

#include "filter.h"
#include "generation.h"
#include "pair.h"
#include "runtime.h"

/* sched:sched_process_fork(parent, child) */
RAW_TRACEPOINT_PROBE(sched_process_fork)
{
	u64 parent = ctx->args[0], child = ctx->args[1];
	u32 tgid = read_kernel_u32(child, TASK_TGID);
	struct process process = {}, *last;
	struct fork_cost cost = { .copied_pages = -1ULL };

	take_fork_cost(&cost);
	if (tgid != read_kernel_u32(child, TASK_PID))
		return 0;	/* a thread */
	process.parent = read_kernel_u32(parent, TASK_TGID);
	process.start_ns = read_kernel_u64(child, TASK_START_BOOTTIME);
	inherit_wanted(process.parent, tgid, process.start_ns);
	inherit_runtime(process.parent, tgid);
	if (!is_wanted(process.parent))
		return 0;
	last = processes.lookup(&tgid);
	if (last && last->exited)
		add_to_counter(COUNT_PID_REUSED, 1);
	bpf_probe_read_kernel(process.comm, sizeof(process.comm),
			      (void *)(child + TASK_COMM));
	begin_generation(parent, child, &process, &cost);
	if (processes.update(&tgid, &process))
		count_loss(LOSS_PROCESSES_FULL);
	note_fork_change();
	return 0;
}

/* task:task_rename(task, comm), from execve and from prctl(PR_SET_NAME) */
RAW_TRACEPOINT_PROBE(task_rename)
{
	u64 task = ctx->args[0];
	u32 tgid = read_kernel_u32(task, TASK_TGID);
	struct process *process;

	if (tgid != read_kernel_u32(task, TASK_PID))
		return 0;	/* a thread's own name */
	process = processes.lookup(&tgid);
	if (process)
		bpf_probe_read_kernel_str(process->comm, sizeof(process->comm),
					  (void *)ctx->args[1]);
	return 0;
}

/*
 * A thread that ends is in no fault: where it still holds a slot, a return never came.
 * Threads that sleep in a fault use up the returns that a kretprobe follows, as with
 * userfaultfd; whoever faults once then would be missing without a trace.
 */
INLINE void expect_no_return(struct inflight *slot, u32 tid)
{
	if (slot && match_return(slot, tid))
		count_loss(LOSS_RETURN_MISSED);
}

#if defined(PLAN_KPROBE) && !defined(PTE_CHANGES)
INLINE struct inflight *wp_slot(u32 index) { return wp_inflight.lookup(&index); }
#else
INLINE struct inflight *wp_slot(u32 index) { return 0; }
#endif
#ifdef PLAN_KPROBE
INLINE struct inflight *finish_slot(u32 index) { return finish_inflight.lookup(&index); }
#else
INLINE struct inflight *finish_slot(u32 index) { return 0; }
#endif
#if HUGE_PAGES
INLINE struct inflight *huge_slot(u32 index) { return huge_inflight.lookup(&index); }
#else
INLINE struct inflight *huge_slot(u32 index) { return 0; }
#endif

INLINE void thread_ends(u32 tid)
{
	u32 index = tid & (SLOTS - 1);

	expect_no_return(wp_slot(index), tid);
	expect_no_return(finish_slot(index), tid);
	expect_no_return(huge_slot(index), tid);
}

/* sched:sched_process_exit(task), of each thread: the last one ends the process */
RAW_TRACEPOINT_PROBE(sched_process_exit)
{
	u64 task = ctx->args[0];
	u32 tgid = read_kernel_u32(task, TASK_TGID);
	u64 signal = read_kernel_u64(task, TASK_SIGNAL);
	struct process *process;

	thread_ends(read_kernel_u32(task, TASK_PID));
	if (read_kernel_u32(signal, SIGNAL_LIVE))
		return 0;
	end_generation(tgid, 0);
	forget_runtime(tgid);
	process = processes.lookup(&tgid);
	if (process)
		process->exited = 1;
	return 0;
}

#endif /* PROCESS_H */
