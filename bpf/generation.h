/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fork generations: to which fork a copy counts. In a child to the fork that made
 * it, in a parent to its latest fork whose child lives; a child that has forked
 * itself is a parent first. exec gives a process memory of its own: it ends both.
 */
#ifndef GENERATION_H
#define GENERATION_H

#include "count.h"

#ifdef GENERATIONS

#define CHAIN	32	/* ended forks that are stepped over to find one whose child lives */
#define MM_ANONPAGES 1	/* include/linux/mm_types_task.h */

/* By number. When it is full, LOSS_GENERATIONS_FULL, and the fork is not noted. */
BPF_HASH(generations, u32, struct generation, MAX_PROCESSES);
BPF_PERCPU_ARRAY(forks_made, u32, 1);

/* The latest of `number` and its predecessors whose child lives; 0: none within CHAIN. */
INLINE u32 living_fork(u32 number)
{
	struct generation *generation;
	int step;

	NO_UNROLL
	for (step = 0; step < CHAIN && number; step++) {
		generation = generations.lookup(&number);
		if (!generation)
			return 0;
		if (!generation->ended_ns)
			return number;
		number = generation->previous;
	}
	return 0;
}

INLINE u32 generation_of(u32 tgid)
{
	struct process *process = processes.lookup(&tgid);
	u32 number;

	if (!process)
		return 0;
	number = living_fork(process->last_fork);
	return number ? number : process->born_in;
}

/*
 * The anonymous pages of an mm, swapped-out ones left out. A struct percpu_counter
 * since "mm: convert mm's rss stats into percpu_counter" (6.2): its parts are added up.
 */
INLINE u64 anonymous_pages(u64 mm)
{
#if defined(MM_RSS_STAT) && defined(PERCPU_COUNTER_BYTES)
	u64 counter = mm + MM_RSS_STAT + MM_ANONPAGES * PERCPU_COUNTER_BYTES;
	u64 parts = read_u64(counter, PERCPU_COUNTER_PARTS);
	u64 pages = read_u64(counter, PERCPU_COUNTER_COUNT);
#ifdef PER_CPU_OFFSETS	/* without CONFIG_KALLSYMS_ALL the parts cannot be found */
	int cpu;

	NO_UNROLL
	for (cpu = 0; cpu < CPUS; cpu++)
		pages += (s32)read_u32(parts + read_u64(PER_CPU_OFFSETS, 8 * cpu), 0);
#endif
	return pages;
#elif defined(MM_RSS_STAT)
	return read_u64(mm, MM_RSS_STAT + 8 * MM_ANONPAGES);
#else
	return -1ULL;
#endif
}

/* In sched_process_fork: the child has its memory and has not run yet. */
INLINE void begin_generation(u64 parent, u64 child, struct process *born)
{
	struct generation generation = {};
	struct process *forker;
	u64 mm = read_u64(child, TASK_MM);
	u32 zero = 0, number, *made, tgid = read_u32(parent, TASK_TGID);

	if (!mm || mm == read_u64(parent, TASK_MM))
		return;	/* a kernel thread; vfork, which borrows the memory */
	introduce(tgid, parent);
	forker = processes.lookup(&tgid);
	made = forks_made.lookup(&zero);
	if (!forker || !made)
		return;
	number = ++*made * CPUS + bpf_get_smp_processor_id();
	generation.parent = tgid;
	generation.child = read_u32(child, TASK_TGID);
	generation.at_ns = bpf_ktime_get_ns();
	generation.shareable_pages = anonymous_pages(mm);
	generation.previous = living_fork(forker->last_fork);
	if (generations.insert(&number, &generation)) {
		lose(LOSS_GENERATIONS_FULL);
		return;
	}
	born->born_in = number;
	forker->last_fork = number;
}

INLINE void end_generation(u32 tgid, u32 executed)
{
	struct process *process = processes.lookup(&tgid);
	struct generation *generation;
	u32 number;

	if (!process)
		return;
	number = process->born_in;
	generation = generations.lookup(&number);
	if (generation && !generation->ended_ns) {
		generation->executed = executed;
		generation->ended_ns = bpf_ktime_get_ns();
	}
	if (executed) {
		process->born_in = 0;
		process->last_fork = 0;
	}
}

#endif /* GENERATIONS */
#endif /* GENERATION_H */
