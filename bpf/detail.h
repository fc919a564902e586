/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The last step of every fault: count it in its sum. With the options for it,
 * also count it by generation, mapping, stack and latency, sample it, and send it
 * through the ring buffer.
 */
#ifndef DETAIL_H
#define DETAIL_H

#include "filter.h"
#include "generation.h"
#include "latency.h"
#include "mapping.h"
#include "sample.h"
#include "stack.h"
#include "written_address.h"

#if defined(DETAILS) || defined(EVENTS) || defined(SAMPLES)
#define NEEDS_PLACE	/* an option needs the mapping or the generation of a fault */
#endif

#ifdef EIGHTHS
#define eighth_of(address) (1 + ((address) >> (PAGE_SHIFT - 3) & 7))
#else
#define eighth_of(address) 0
#endif

/* Fill in where a fault was; count_detail() fills in its kind and stacks. */
INLINE void set_place(struct detail_key *key, u32 tgid, u64 vma, u64 address)
{
	int lost;

	key->tgid = tgid;
	key->generation = generation_of(tgid, &lost);
	key->mapping = note_mapping(tgid, vma, &lost);
	key->eighth = eighth_of(address);
}

#ifdef DETAILS
/* Shared by all CPUs: it holds far more keys than any CPU meets. Full: LOSS_DETAILS_FULL. */
BPF_HASH(details, struct detail_key, struct detail_sum, MAP_SIZE);

/* key->half must be set, as in the fault's sum. */
INLINE void add_detail(struct detail_key *key, u64 faults, u64 bytes, u64 ns)
{
	struct detail_sum zero = {}, *sum = details.lookup(key);

	if (!sum) {
		details.insert(key, &zero);
		sum = details.lookup(key);
	}
	if (!sum) {
		add_to_counter(LOSS_DETAILS_FULL, magnitude(faults));
		return;
	}
	atomic_add(&sum->faults, faults);
	atomic_add(&sum->bytes, bytes);
	if (ns) {
		atomic_add(&sum->ns, ns);
		atomic_add(&sum->tlb_flush_ns, tlb_flush_ns());
		count_stall(key, ns);
	}
}

INLINE void set_kind(struct detail_key *key, const struct fault_key *fault)
{
	key->kind = fault->kind;
	key->source = fault->source;
	key->origin = fault->origin;
	key->half = fault->half;
}

INLINE void count_detail(void *ctx, struct detail_key *key, const struct fault_key *fault,
			 u64 user_stack, u64 bytes, u64 ns)
{
	set_kind(key, fault);
	key->user_stack = 0;
	key->kernel_stack = 0;
	if (fault->kind == COPIED || fault->kind == FILE_COPIED || fault->kind == ZERO_FILLED) {
		key->user_stack = note_user_stack(ctx, fault->tgid, user_stack);
		key->kernel_stack = note_kernel_stack(ctx);
	}
	add_detail(key, 1, bytes, ns);
}
#else
INLINE void add_detail(struct detail_key *key, u64 faults, u64 bytes, u64 ns) {}
INLINE void set_kind(struct detail_key *key, const struct fault_key *fault) {}
INLINE void count_detail(void *ctx, struct detail_key *key, const struct fault_key *fault,
			 u64 user_stack, u64 bytes, u64 ns) {}
#endif

#ifdef EVENTS
BPF_RINGBUF_OUTPUT(events, MAP_SIZE);	/* when it is full, LOSS_EVENTS_DROPPED */

INLINE void send_event(const struct fault_key *fault, u64 address, u64 mapping, u64 bytes,
		       u64 ns, u8 state)
{
	struct event *event = events.ringbuf_reserve(sizeof(*event));

	if (!event) {
		count_loss(LOSS_EVENTS_DROPPED);
		return;
	}
	event->at_ns = bpf_ktime_get_ns();
	event->address = address;
	event->mapping = mapping;
	event->bytes = bytes;
	event->ns = ns;
	event->tgid = fault->tgid;
	event->actor_tid = current_tid();
	event->kind = fault->kind;
	event->source = fault->source;
	event->origin = fault->origin;
	event->state = state;
	event->pad = 0;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	events.ringbuf_submit(event, 0);
}

/* Faults that no program saw one by one: there is no event of any. */
INLINE void lose_events(u64 faults)
{
	add_to_counter(LOSS_EVENTS_DROPPED, faults);
}
#else
INLINE void lose_events(u64 faults) {}
INLINE void send_event(const struct fault_key *fault, u64 address, u64 mapping, u64 bytes,
		       u64 ns, u8 state) {}
#endif

#ifdef NEEDS_PLACE
#define prune_zero(any) untracked_zero(any)
#else
#define prune_zero(any) 0
#endif

#ifdef DETAIL_CELLS
/* Cells as in count.h, of sums in detail: what the hashes of both cost is saved. */
BPF_PERCPU_ARRAY(detail_cells, struct detail_cell, 2 * CELLS);

#define NEXT_MAPPING 0x9e3779b1U	/* odd: mappings that lie close take cells far apart */
#define NO_FORKS -1ULL
#define may_use_detail_cells(context) may_use_cells(context)

/* As replace_cell(). */
INLINE void replace_detail_cell(struct detail_cell *cell, const struct fault_key *key, u64 task,
				u64 bytes, u32 round)
{
	struct detail_key last = {
		.mapping = cell->mapping, .generation = cell->generation, .tgid = cell->sum.key.tgid,
		.kind = cell->sum.key.kind, .source = cell->sum.key.source,
		.origin = cell->sum.key.origin, .half = cell->sum.key.half,
	};

	if (cell->sum.round == round)
		add_detail(&last, cell->sum.faults, cell->sum.bytes, 0);
	replace_cell(&cell->sum, key, task, 1, bytes, round);
}

/* Count one fault, and fill in where it was. */
INLINE void count_in_detail_cell(struct fault_key *key, u64 task, u64 vma, u64 bytes,
				 struct detail_key *place)
{
	u64 mapping = mapping_start(vma), end = mapping_end(vma), forks = fork_changes_now();
	u32 now = current_round();
	u32 index = cell_index(key, now, (mapping >> PAGE_SHIFT) * NEXT_MAPPING);
	struct detail_cell *cell = detail_cells.lookup(&index);
	int lost = 0;

	if (!cell)
		return;
	key->half = now & 1;
	if (has_sum(&cell->sum, key, now) && cell->mapping == mapping && cell->end == end &&
	    cell->forks == forks) {
		add_to_cell(&cell->sum, 1, bytes);
	} else {
		replace_detail_cell(cell, key, task, bytes, now);	/* notes the process */
		cell->generation = generation_of(key->tgid, &lost);
		cell->mapping = note_mapping(key->tgid, vma, &lost);
		cell->end = end;
		cell->forks = lost ? NO_FORKS : forks;	/* so that each loss is counted */
	}
	place->mapping = cell->mapping;
	place->generation = cell->generation;
}
#else
#define may_use_detail_cells(context) 0
INLINE void count_in_detail_cell(struct fault_key *key, u64 task, u64 vma, u64 bytes,
				 struct detail_key *place) {}
#endif

/*
 * Count one fault. `task` as in note_process(), `address` as in written_address.h. Every
 * plan's kprobe programs call this: no direct loads.
 */
INLINE void count_fault(void *ctx, struct fault_key *key, u64 task, u64 vma, u64 address,
			u64 bytes, enum context context)
{
	struct detail_key detail = {};
	u64 ns = 0;

	if (!is_wanted(key->tgid))
		return;
	if (may_use_detail_cells(context)) {
		count_in_detail_cell(key, task, vma, bytes, &detail);
	} else {
		add_to_sum(key, task, 1, bytes, context);
		bytes += prune_zero(address);
		key->kind += prune_zero(address);
		key->source += prune_zero(address);
		key->origin += prune_zero(address);
		if (key->origin != ORIGIN_FORK)
			ns = ns_since_fault_start();
		detail.latency = log2_slot(ns);
		set_place(&detail, key->tgid, vma, address);
		count_detail(ctx, &detail, key, STACK_NOW, bytes, ns);
	}
	take_sample(key, &detail, address, 0);
	send_event(key, address, detail.mapping, bytes, ns, EVENT_DECIDED);
}

/* Count copies of the current process's pages in one mapping, which no program saw one by one. */
INLINE void count_copies(struct fault_key *key, u64 vma, u64 faults)
{
	struct detail_key detail = {};

	if (!faults || !is_wanted(key->tgid))
		return;
	key->half = current_round() & 1;
	add_to_hash(key, 0, faults, faults * PAGE_SIZE);
	set_place(&detail, key->tgid, vma, 0);
	detail.eighth = 0;	/* unknown */
	set_kind(&detail, key);
	add_detail(&detail, faults, faults * PAGE_SIZE, 0);
	lose_events(faults);
}

#endif /* DETAIL_H */
