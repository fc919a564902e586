/* SPDX-License-Identifier: GPL-2.0-only */
/* The maps that user space reads, and the functions that add to them. */
#ifndef COUNT_H
#define COUNT_H

#include "cow.h"
#include "kernel.h"

/*
 * Of a map whose size the loader sets (MAP_SIZES in cowtrace/tracer/loader.py): the
 * programs are the same for all sizes. What finds no room in a map is a loss.
 */
#define MAP_SIZE 1

/*
 * Count in rounds. User space starts a new round and waits until no program of
 * the old round is running (an RCU grace period). Then no program adds to the old
 * round's counts: none is lost between reading and deleting them.
 */
BPF_ARRAY(rounds, u32, 1);

INLINE u32 current_round(void)
{
	return *(volatile u32 *)only_element(ROUNDS) + 1;	/* 0: the round of a cell that was never used */
}

/*
 * Shared by all CPUs: creating a per-CPU hash takes longer than the rest of a start.
 * Preallocated: a fault can happen where no memory can be allocated. When it is
 * full, LOSS_SUMS_FULL counts the faults that are missing.
 */
BPF_HASH(fault_sums, struct fault_key, struct fault_sum, MAP_SIZE);

/* Name, parent and exit of each process; when it is full, LOSS_PROCESSES_FULL. */
BPF_HASH(processes, u32, struct process, MAP_SIZE);

BPF_PERCPU_ARRAY(counters, u64, COUNTERS);

INLINE void add_to_counter(u32 counter, u64 by)
{
	u64 *count = counters.lookup(&counter);

	if (count)
		atomic_add(count, by);	/* a thread can be preempted in a program */
}

INLINE void count_loss(u32 loss)
{
	add_to_counter(loss, 1);
}

/*
 * Note a process that existed before attach, when it is first seen. `task` is one
 * of its threads, 0 for the current one.
 */
INLINE void note_process(u32 tgid, u64 task)
{
	struct process process = {};
	u64 leader;

	if (processes.lookup(&tgid))
		return;
	if (!task)
		task = bpf_get_current_task();
	leader = read_kernel_u64(task, TASK_GROUP_LEADER);
	process.start_ns = read_kernel_u64(leader, TASK_START_BOOTTIME);
	bpf_probe_read_kernel(process.comm, sizeof(process.comm),
			      (void *)(leader + TASK_COMM));
	if (processes.insert(&tgid, &process) && !processes.lookup(&tgid))
		count_loss(LOSS_PROCESSES_FULL);
}

#define TAKEN_BACK -1ULL	/* as number of faults: one that was counted too early */
#define magnitude(faults) ((faults) >> 63 ? -(faults) : (faults))
#define PROCESS_NOTED -1ULL	/* as `task`: note_process() has noted it */

/* Add to a sum of the hash. `task` as in note_process(). key->half must be set. */
INLINE void add_to_hash(struct fault_key *key, u64 task, u64 faults, u64 bytes)
{
	struct fault_sum zero = {}, *sum = fault_sums.lookup(key);

	if (!sum) {
		if (task != PROCESS_NOTED)
			note_process(key->tgid, task);
		fault_sums.insert(key, &zero);
		sum = fault_sums.lookup(key);
	}
	if (!sum) {
		add_to_counter(LOSS_SUMS_FULL, magnitude(faults));
		return;
	}
	atomic_add(&sum->faults, faults);
	atomic_add(&sum->bytes, bytes);
}

/* Whether a program can be preempted by another one: not while it holds a spinlock. */
enum context {
	ANYWHERE,
	UNDER_LOCK,	/* the page table's */
};

#ifndef CELLS
#define may_use_cells(context) 0
#else
/*
 * A cache in front of the hash, which costs more than all other steps: CELLS a
 * round, by the low bits of tgid and kind. A sum with another key that occupies
 * the cell goes to the hash. Not used where one program can preempt another: it
 * would find cells half written.
 */
#ifndef DETAIL_CELLS	/* in place of these */
BPF_PERCPU_ARRAY(cells, struct cell, 2 * CELLS);
#endif

#ifdef PREEMPTIBLE
#define may_use_cells(context) ((context) == UNDER_LOCK)
#else
#define may_use_cells(context) 1
#endif

/* `spread`: of keys with the same tgid and kind. */
INLINE u32 cell_index(const struct fault_key *key, u32 round, u32 spread)
{
	return (round & 1) * CELLS + ((key->tgid * 8 + key->kind + spread) & (CELLS - 1));
}

/* Whether the cell has the sum of that key and round. key->half must be set. */
INLINE int has_sum(const struct cell *cell, const struct fault_key *key, u32 round)
{
	struct cell head = { .key = *key, .round = round };

	/* Key and round are two words. */
	return ((u64 *)cell)[0] == ((u64 *)&head)[0] && ((u64 *)cell)[1] == ((u64 *)&head)[1];
}

INLINE void add_to_cell(struct cell *cell, u64 faults, u64 bytes)
{
	cell->faults += faults;
	cell->bytes += bytes;
}

/* What the cell has of this round goes to the hash, and the cell has these faults of that key. */
INLINE void replace_cell(struct cell *cell, const struct fault_key *key, u64 task, u64 faults,
			 u64 bytes, u32 round)
{
	struct fault_key last = cell->key;

	if (cell->round == round)
		add_to_hash(&last, PROCESS_NOTED, cell->faults, cell->bytes);
	note_process(key->tgid, task);
	cell->key = *key;
	cell->faults = faults;
	cell->bytes = bytes;
	cell->round = round;
}

#endif /* CELLS */

#if defined(CELLS) && !defined(DETAIL_CELLS)
INLINE void add_to_cells(struct fault_key *key, u64 task, u64 faults, u64 bytes)
{
	u32 now = current_round(), index = cell_index(key, now, 0);
	struct cell *cell = cells.lookup(&index);

	if (!cell)
		return;
	key->half = now & 1;
	if (has_sum(cell, key, now))
		add_to_cell(cell, faults, bytes);
	else
		replace_cell(cell, key, task, faults, bytes, now);
}
#else
INLINE void add_to_cells(struct fault_key *key, u64 task, u64 faults, u64 bytes) {}
#endif

/* Add faults to their sum. `task` as in note_process(). */
INLINE void add_to_sum(struct fault_key *key, u64 task, u64 faults, u64 bytes, enum context context)
{
	if (may_use_cells(context)) {
		add_to_cells(key, task, faults, bytes);
		return;
	}
	key->half = current_round() & 1;
	add_to_hash(key, task, faults, bytes);
}

/* True if faults at that address are counted. */
#ifdef REGION_START
INLINE int in_region(u64 address)
{
	return address >= REGION_START && address < REGION_END;
}
#else
INLINE int in_region(u64 address) { return 1; }
#endif

#endif /* COUNT_H */
