/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Attribute copies to forks. A copy in a child is attributed to the fork that
 * created it; a copy in a parent, to its latest fork whose child still runs. A
 * child that has forked counts as a parent first. exec ends both: the new memory
 * is shared with no fork.
 */
#ifndef GENERATION_H
#define GENERATION_H

#include "count.h"
#include "fork_call.h"
#include "runtime.h"

#ifdef GENERATIONS

#define CHAIN	32	/* forks searched for one whose child still runs */
#define MM_ANONPAGES 1	/* include/linux/mm_types_task.h */
#define SECOND_NS 1000000000ULL

/* By number. When it is full, LOSS_GENERATIONS_FULL: the fork is not noted. */
BPF_HASH(generations, u32, struct generation, MAP_SIZE);
BPF_PERCPU_ARRAY(fork_numbers, u32, 1);
BPF_ARRAY(fork_changes, u64, 1);

/* How often a fork has begun or ended: until it has again, generation_of() returns the same. */
INLINE u64 fork_changes_now(void)
{
	return *(volatile u64 *)only_element(FORK_CHANGES);
}

/* After the change. */
INLINE void note_fork_change(void)
{
	atomic_add(only_element(FORK_CHANGES), 1);
}

/* The latest of fork `number` and its predecessors whose child still runs; 0: none, or `lost`. */
INLINE u32 latest_shared_fork(u32 number, int *lost)
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
	if (number) {
		count_loss(LOSS_FORK_NOT_FOUND);
		*lost = 1;
	}
	return 0;
}

INLINE u32 generation_of(u32 tgid, int *lost)
{
	struct process *process = processes.lookup(&tgid);
	u32 number;

	if (!process)
		return 0;
	number = latest_shared_fork(process->last_fork, lost);
	return number ? number : process->created_by;
}

/*
 * The anonymous pages of an mm, without those swapped out. A struct percpu_counter
 * since "mm: convert mm's rss stats into percpu_counter" (6.2): add the CPUs' parts.
 */
INLINE u64 anonymous_pages(u64 mm)
{
#if defined(MM_RSS_STAT) && defined(PERCPU_COUNTER_BYTES)
	u64 counter = mm + MM_RSS_STAT + MM_ANONPAGES * PERCPU_COUNTER_BYTES;
	u64 parts = read_kernel_u64(counter, PERCPU_COUNTER_PARTS);
	u64 pages = read_kernel_u64(counter, PERCPU_COUNTER_COUNT);
	u64 offsets = address_of(PER_CPU_OFFSET);
	int cpu;

	if (!offsets)	/* without CONFIG_KALLSYMS_ALL or CAP_SYSLOG: the parts are not found */
		return pages;
	NO_UNROLL
	for (cpu = 0; cpu < CPUS; cpu++)
		pages += (s32)read_kernel_u32(parts + read_kernel_u64(offsets, 8 * cpu), 0);
	return pages;
#elif defined(MM_RSS_STAT)
	return read_kernel_u64(mm, MM_RSS_STAT + 8 * MM_ANONPAGES);
#else
	return -1ULL;
#endif
}

INLINE u64 page_table_bytes(u64 mm)
{
#ifdef MM_PGTABLES_BYTES
	return read_kernel_u64(mm, MM_PGTABLES_BYTES);
#else
	return -1ULL;
#endif
}

/*
 * In sched_process_fork: the child has its memory and has not run yet. The
 * arguments are struct task_struct *; `process` is the child's.
 */
INLINE void begin_generation(u64 parent_task, u64 child_task, struct process *process,
			     const struct fork_cost *cost)
{
	struct generation generation = {};
	struct process *parent;
	u64 mm = read_kernel_u64(child_task, TASK_MM);
	u32 zero = 0, number, *forks, tgid = read_kernel_u32(parent_task, TASK_TGID);
	int lost;

	if (!mm || mm == read_kernel_u64(parent_task, TASK_MM))
		return;	/* a kernel thread; vfork, which borrows the memory */
	note_process(tgid, parent_task);
	parent = processes.lookup(&tgid);
	forks = fork_numbers.lookup(&zero);
	if (!parent || !forks)
		return;
	number = ++*forks * CPUS + bpf_get_smp_processor_id();
	generation.parent = tgid;
	generation.child = read_kernel_u32(child_task, TASK_TGID);
	generation.at_ns = bpf_ktime_get_ns();
	generation.shareable_pages = anonymous_pages(mm);
	generation.fork_ns = cost->ns;
	generation.lock_ns = cost->lock_ns;
	generation.page_table_bytes = page_table_bytes(mm);
	generation.copied_pages = cost->copied_pages;
	generation.previous = latest_shared_fork(parent->last_fork, &lost);
	if (generations.insert(&number, &generation)) {
		count_loss(LOSS_GENERATIONS_FULL);
		return;
	}
	process->created_by = number;
	parent->last_fork = number;
}

/* A timed fault. */
INLINE void count_stall(const struct detail_key *key, u64 ns)
{
	u32 number = key->generation;
	struct generation *generation = generations.lookup(&number);
	u64 *stall;

	if (!generation || generation->parent != key->tgid)
		return;
	if (key->kind != COPIED && key->kind != REUSED)
		return;
	stall = key->half ? &generation->first_second_ns[1] : &generation->first_second_ns[0];
	if (bpf_ktime_get_ns() - generation->at_ns < SECOND_NS)
		atomic_add(stall, ns);
}

INLINE void end_generation(u32 tgid, u32 executed)
{
	struct process *process = processes.lookup(&tgid);
	struct generation *generation;
	u32 number;

	if (!process)
		return;
	number = process->created_by;
	generation = generations.lookup(&number);
	if (generation && !generation->ended_ns) {
		generation->executed = executed;
		generation->ended_ns = bpf_ktime_get_ns();
	}
	if (executed) {
		process->created_by = 0;
		process->last_fork = 0;
	}
	note_fork_change();
}

/* sched:sched_process_exec(task, old_pid, bprm) */
RAW_TRACEPOINT_PROBE(sched_process_exec)
{
	struct fork_cost none;

	take_fork_cost(&none);	/* exec makes a new mm, too */
	end_generation(current_tgid(), 1);
	forget_runtime(current_tgid());
	return 0;
}

#else
INLINE u64 fork_changes_now(void) { return 0; }
INLINE void note_fork_change(void) {}
INLINE u32 generation_of(u32 tgid, int *lost) { return 0; }
INLINE void begin_generation(u64 parent_task, u64 child_task, struct process *process,
			     const struct fork_cost *cost) {}
INLINE void count_stall(const struct detail_key *key, u64 ns) {}
INLINE void end_generation(u32 tgid, u32 executed) {}
#endif /* GENERATIONS */
#endif /* GENERATION_H */
