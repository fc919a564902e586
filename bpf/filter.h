/* SPDX-License-Identifier: GPL-2.0-only */
/* Select the processes to count: all, unless PIDs or a cgroup are requested. */
#ifndef FILTER_H
#define FILTER_H

#include "count.h"

#ifdef WANTED
/* By tgid: start_ns, 0 if user space added it. When it is full, LOSS_FILTER_FULL. */
BPF_HASH(wanted, u32, u64, MAP_SIZE);

INLINE int pid_is_wanted(u32 tgid)
{
	return wanted.lookup(&tgid) != 0;
}

/* A process forks: with FOLLOW, its child is wanted if the parent is. */
INLINE void inherit_wanted(u32 parent, u32 child, u64 start_ns)
{
	wanted.delete(&child);	/* of an earlier process with that pid */
#ifdef FOLLOW
	if (wanted.lookup(&parent) && wanted.update(&child, &start_ns))
		count_loss(LOSS_FILTER_FULL);
#endif
}

/*
 * sched:sched_process_free(task): a process that has ended takes no room. Not at
 * its exit, after which it can still fault. By now another process can have its pid.
 */
RAW_TRACEPOINT_PROBE(sched_process_free)
{
	u64 task = ctx->args[0];
	u32 tgid = read_kernel_u32(task, TASK_TGID);
	u64 *start_ns = wanted.lookup(&tgid);

	if (!start_ns || tgid != read_kernel_u32(task, TASK_PID))
		return 0;
	if (!*start_ns || *start_ns == read_kernel_u64(task, TASK_START_BOOTTIME))
		wanted.delete(&tgid);
	return 0;
}
#else
INLINE int pid_is_wanted(u32 tgid) { return 1; }
INLINE void inherit_wanted(u32 parent, u32 child, u64 start_ns) {}
#endif

#ifdef CGROUP
BPF_CGROUP_ARRAY(cgroups, 1);

INLINE int cgroup_is_wanted(void)
{
	return cgroups.check_current_task(0) > 0;	/* also in descendants of the group */
}
#else
INLINE int cgroup_is_wanted(void) { return 1; }
#endif

/* True if faults of the current task in that process's memory are counted. */
INLINE int is_wanted(u32 tgid)
{
	return pid_is_wanted(tgid) && cgroup_is_wanted();
}

#endif /* FILTER_H */
