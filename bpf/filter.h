/* SPDX-License-Identifier: GPL-2.0-only */
/* Select the processes to count: all, unless PIDs or a cgroup are requested. */
#ifndef FILTER_H
#define FILTER_H

#include "count.h"

#ifdef WANTED
BPF_HASH(wanted, u32, u32, MAX_PROCESSES);	/* tgids; when full, LOSS_PROCESSES_FULL */

INLINE int pid_is_wanted(u32 tgid)
{
	return wanted.lookup(&tgid) != 0;
}

/* A process forks: with FOLLOW, its child is wanted if the parent is. */
INLINE void inherit_wanted(u32 parent, u32 child)
{
	wanted.delete(&child);	/* of an earlier process with that pid */
#ifdef FOLLOW
	u32 one = 1;

	if (wanted.lookup(&parent) && wanted.update(&child, &one))
		count_loss(LOSS_PROCESSES_FULL);
#endif
}
#else
INLINE int pid_is_wanted(u32 tgid) { return 1; }
INLINE void inherit_wanted(u32 parent, u32 child) {}
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
