/* SPDX-License-Identifier: GPL-2.0-only */
/* The maps that user space reads, and the one way to add to them. */
#ifndef COUNT_H
#define COUNT_H

#include "cow.h"
#include "kernel.h"

/*
 * Per-CPU: no atomics, which 5.10 refuses in the form newer compilers emit.
 * Preallocated: a fault may come where memory cannot be had. When it is full,
 * LOSS_SUMS_FULL counts what was not counted.
 */
BPF_PERCPU_HASH(fault_sums, struct fault_key, struct fault_sum, MAX_ROWS);

/* Names, parents, ends; written a few times in a process's life. */
BPF_HASH(processes, u32, struct process, MAX_PROCESSES);

BPF_PERCPU_ARRAY(losses, u64, LOSS_MAX);

INLINE void lose(u32 cause)
{
	u64 *count = losses.lookup(&cause);

	if (count)
		(*count)++;
}

/*
 * Fill in a process that was born before attach: the first time it is seen.
 * `task` is one of its threads, 0 for the current one.
 */
INLINE void introduce(u32 tgid, u64 task)
{
	struct process process = {};
	u64 leader;

	if (processes.lookup(&tgid))
		return;
	if (!task)
		task = bpf_get_current_task();
	leader = read_u64(task, TASK_GROUP_LEADER);
	process.start_ns = read_u64(leader, TASK_START_BOOTTIME);
	bpf_probe_read_kernel(process.comm, sizeof(process.comm),
			      (void *)(leader + TASK_COMM));
	if (processes.insert(&tgid, &process) && !processes.lookup(&tgid))
		lose(LOSS_PROCESSES_FULL);
}

/*
 * Add to one sum. `task` is a thread of the process that `key` names, 0 for the
 * current one. `faults` may be -1, to take back what was counted too early
 * (tracepoint plan).
 */
INLINE void add(struct fault_key *key, u64 task, u64 faults, u64 bytes)
{
	struct fault_sum zero = {}, *sum = fault_sums.lookup(key);

	if (!sum) {
		introduce(key->tgid, task);
		fault_sums.insert(key, &zero);
		sum = fault_sums.lookup(key);
	}
	if (!sum) {
		lose(LOSS_SUMS_FULL);
		return;
	}
	sum->faults += faults;
	sum->bytes += bytes;
}

INLINE int in_region(u64 address)
{
#ifdef REGION_START
	return address >= REGION_START && address < REGION_END;
#else
	return 1;
#endif
}

#endif /* COUNT_H */
