/* SPDX-License-Identifier: GPL-2.0-only */
/* The maps that user space reads, and the one way to add to them. */
#ifndef COUNT_H
#define COUNT_H

#include "cow.h"
#include "kernel.h"

/*
 * Counting goes in rounds. User space starts a new round, waits until no program
 * of the old one is running (an RCU grace period), and then has the old round's
 * counts for itself: none is lost between their reading and their deletion.
 */
BPF_ARRAY(rounds, u32, 1);

INLINE u32 current_round(void)
{
	u32 zero = 0, *now = rounds.lookup(&zero);

	return now ? *now + 1 : 0;	/* 0 is the round of a cell never used */
}

/*
 * Shared by all CPUs: parts for each would take longer to make than all the rest.
 * Preallocated: a fault may come where memory cannot be had. When it is full,
 * LOSS_SUMS_FULL counts what was not counted.
 */
BPF_HASH(fault_sums, struct fault_key, struct fault_sum, MAX_ROWS);

/* Names, parents, ends; written a few times in a process's life. */
BPF_HASH(processes, u32, struct process, MAX_PROCESSES);

BPF_PERCPU_ARRAY(losses, u64, LOSS_MAX);

INLINE void lose_many(u32 cause, u64 by)
{
	u64 *count = losses.lookup(&cause);

	if (count)
		*count += by;
}

INLINE void lose(u32 cause)
{
	lose_many(cause, 1);
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

#define INTRODUCED -1ULL	/* as `task`: that process is known already */

/*
 * Add to one sum. `task` is a thread of the process that `key` names, 0 for the
 * current one. key->half must be set.
 */
INLINE void add_to_hash(struct fault_key *key, u64 task, u64 faults, u64 bytes)
{
	struct fault_sum zero = {}, *sum = fault_sums.lookup(key);

	if (!sum) {
		if (task != INTRODUCED)
			introduce(key->tgid, task);
		fault_sums.insert(key, &zero);
		sum = fault_sums.lookup(key);
	}
	if (!sum) {
		lose_many(LOSS_SUMS_FULL, faults);
		return;
	}
	atomic_add(&sum->faults, faults);
	atomic_add(&sum->bytes, bytes);
}

INLINE void add(struct fault_key *key, u64 task, u64 faults, u64 bytes)
{
	key->half = current_round() & 1;
	add_to_hash(key, task, faults, bytes);
}

#ifdef CELLS
/*
 * In front of the hash, which costs more than all the rest: CELLS a round, by
 * the low bits of process and kind. What is in the way goes to the hash. Not
 * where two programs can take turns: they would find cells half written.
 */
BPF_PERCPU_ARRAY(cells, struct cell, 2 * CELLS);

INLINE void add_often(struct fault_key *key, u64 task, u64 bytes)
{
	u32 now = current_round();
	u32 index = (now & 1) * CELLS + ((key->tgid * 8 + key->kind) & (CELLS - 1));
	struct cell *cell = cells.lookup(&index), head = {};
	struct fault_key last;

	if (!cell)
		return;
	key->half = now & 1;
	head.key = *key;
	head.round = now;
	/* Key and round are two words. */
	if (((u64 *)cell)[0] == ((u64 *)&head)[0] && ((u64 *)cell)[1] == ((u64 *)&head)[1]) {
		cell->faults++;
		cell->bytes += bytes;
		return;
	}
	if (cell->round == now) {
		last = cell->key;
		add_to_hash(&last, INTRODUCED, cell->faults, cell->bytes);
	}
	introduce(key->tgid, task);
	cell->key = *key;
	cell->faults = 1;
	cell->bytes = bytes;
	cell->round = now;
}
#else
#define add_often(key, task, bytes) add(key, task, 1, bytes)
#endif

INLINE int in_region(u64 address)
{
#ifdef REGION_START
	return address >= REGION_START && address < REGION_END;
#else
	return 1;
#endif
}

#endif /* COUNT_H */
