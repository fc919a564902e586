/* SPDX-License-Identifier: GPL-2.0-only */
/* Births, names and ends of processes, from tracepoints that every plan has. */
#ifndef PROCESS_H
#define PROCESS_H

#include "filter.h"
#include "generation.h"

/* sched:sched_process_fork(parent, child) */
RAW_TRACEPOINT_PROBE(sched_process_fork)
{
	u64 parent = ctx->args[0], child = ctx->args[1];
	u32 tgid = read_u32(child, TASK_TGID);
	struct process process = {}, *last;

	if (tgid != read_u32(child, TASK_PID))
		return 0;	/* a thread */
	process.parent = read_u32(parent, TASK_TGID);
	inherit_wanted(process.parent, tgid);
	if (!is_wanted(process.parent))
		return 0;
	last = processes.lookup(&tgid);
	if (last && last->exited)
		lose(LOSS_PID_REUSED);
	process.start_ns = read_u64(child, TASK_START_BOOTTIME);
	bpf_probe_read_kernel(process.comm, sizeof(process.comm),
			      (void *)(child + TASK_COMM));
#ifdef GENERATIONS
	begin_generation(parent, child, &process);
#endif
	if (processes.update(&tgid, &process))
		lose(LOSS_PROCESSES_FULL);
	return 0;
}

/* task:task_rename(task, comm), of execve and of prctl(PR_SET_NAME) alike */
RAW_TRACEPOINT_PROBE(task_rename)
{
	u64 task = ctx->args[0];
	u32 tgid = read_u32(task, TASK_TGID);
	struct process *process;

	if (tgid != read_u32(task, TASK_PID))
		return 0;	/* a thread's own name */
	process = processes.lookup(&tgid);
	if (process)
		bpf_probe_read_kernel_str(process->comm, sizeof(process->comm),
					  (void *)ctx->args[1]);
	return 0;
}

/* sched:sched_process_exit(task), of each thread: the last one ends the process */
RAW_TRACEPOINT_PROBE(sched_process_exit)
{
	u64 task = ctx->args[0];
	u32 tgid = read_u32(task, TASK_TGID);
	u64 signal = read_u64(task, TASK_SIGNAL);
	struct process *process;

	if (read_u32(signal, SIGNAL_LIVE))
		return 0;
#ifdef GENERATIONS
	end_generation(tgid, 0);
#endif
	process = processes.lookup(&tgid);
	if (process)
		process->exited = 1;
	return 0;
}

#ifdef GENERATIONS
/* sched:sched_process_exec(task, old_pid, bprm) */
RAW_TRACEPOINT_PROBE(sched_process_exec)
{
	end_generation(current_tgid(), 1);
	return 0;
}
#endif

#endif /* PROCESS_H */
