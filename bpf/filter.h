/* SPDX-License-Identifier: GPL-2.0-only */
/* Which processes are counted: all of them, unless some are asked for. */
#ifndef FILTER_H
#define FILTER_H

#include "count.h"

#ifdef WANTED
BPF_HASH(wanted, u32, u32, MAX_PROCESSES);	/* tgids; when full, LOSS_PROCESSES_FULL */
#endif
#ifdef CGROUP
BPF_CGROUP_ARRAY(cgroups, 1);
#endif

/* Whether faults in that process's memory, made by the current task, are counted. */
INLINE int is_wanted(u32 tgid)
{
#ifdef WANTED
	if (!wanted.lookup(&tgid))
		return 0;
#endif
#ifdef CGROUP
	if (cgroups.check_current_task(0) <= 0)	/* descendants of the group are in it */
		return 0;
#endif
	return 1;
}

/* A fork: with FOLLOW, a child is wanted as its parent is. */
INLINE void inherit_wanted(u32 parent, u32 child)
{
#ifdef WANTED
	wanted.delete(&child);	/* another process had that pid */
#ifdef FOLLOW
	u32 one = 1;

	if (wanted.lookup(&parent) && wanted.update(&child, &one))
		lose(LOSS_PROCESSES_FULL);
#endif
#endif
}

#endif /* FILTER_H */
