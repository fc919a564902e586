/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The last step of every fault: into its sum, and, as far as asked for, into
 * sums by generation, mapping, stack and latency, and into the ring buffer.
 */
#ifndef DETAIL_H
#define DETAIL_H

#include "filter.h"
#include "generation.h"
#include "latency.h"
#include "mapping.h"
#include "sample.h"
#include "stack.h"

#if defined(DETAILS) || defined(EVENTS) || defined(SAMPLES)
#define TOLD	/* where a fault was is wanted */
#endif

#ifdef DETAILS
/* Shared by all CPUs: it holds far more keys than any CPU meets. Full: LOSS_DETAILS_FULL. */
BPF_HASH(details, struct detail_key, struct detail_sum, MAX_DETAILS);

INLINE void add_detail(struct detail_key *key, u64 faults, u64 bytes, u64 ns)
{
	struct detail_sum zero = {}, *sum;

	key->half = current_round() & 1;
	sum = details.lookup(key);
	if (!sum) {
		details.insert(key, &zero);
		sum = details.lookup(key);
	}
	if (!sum) {
		lose(LOSS_DETAILS_FULL);
		return;
	}
	atomic_add(&sum->faults, faults);
	atomic_add(&sum->bytes, bytes);
	if (ns)
		atomic_add(&sum->ns, ns);
}
#endif

#ifdef EVENTS
BPF_RINGBUF_OUTPUT(events, EVENT_PAGES);

INLINE void emit(const struct fault_key *fault, u64 address, u64 mapping, u64 bytes, u64 ns,
		 u8 undecided)
{
	struct event *event = events.ringbuf_reserve(sizeof(*event));

	if (!event) {
		lose(LOSS_EVENTS_DROPPED);
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
	event->undecided = undecided;
	event->pad = 0;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	events.ringbuf_submit(event, 0);
}
#endif

/* What is known of a fault's place; its kind and its stacks come with set_kind(). */
INLINE void set_place(struct detail_key *key, u32 tgid, u64 vma)
{
	key->tgid = tgid;
#ifdef GENERATIONS
	key->generation = generation_of(tgid);
#endif
#ifdef MAPPINGS
	key->mapping = note_mapping(tgid, vma);
#endif
}

#define STACK_NOW -1ULL	/* take the user stack now, none was taken before */

INLINE void set_kind(struct detail_key *key, void *ctx, const struct fault_key *fault,
		     u64 user_stack)
{
	key->kind = fault->kind;
	key->source = fault->source;
	key->origin = fault->origin;
	key->user_stack = 0;
	key->kernel_stack = 0;
	if (fault->kind != COPIED && fault->kind != FILE_COPIED && fault->kind != ZERO_FILLED)
		return;
#ifdef USER_STACKS
	if (fault->tgid == current_tgid())
		key->user_stack = user_stack == STACK_NOW ?
				  note_stack(ctx, BPF_F_USER_STACK) : user_stack;
#endif
#ifdef KERNEL_STACKS
	key->kernel_stack = note_stack(ctx, 0);
#endif
}

/*
 * A zero that the verifier cannot track. Added to a value that the verifier knows,
 * it makes the verifier forget that value and prune states: otherwise it follows
 * the rest of the program once for each value that can arrive here.
 */
INLINE u64 unknown_0(u64 any)
{
	u64 zero;

	asm volatile("%0 = %1\n\t%0 -= %1" : "=&r"(zero) : "r"(any));
	return zero;
}

/*
 * Count one fault. `task` as in add(); `vma` and `address`: where. For kprobe
 * programs too, in every plan: no direct loads.
 */
INLINE void count_fault(void *ctx, struct fault_key *key, u64 task, u64 vma, u64 address,
			u64 bytes)
{
	struct detail_key detail = {};
	u64 ns = 0;

	if (!is_wanted(key->tgid))
		return;
	add_often(key, task, bytes);
#ifdef TOLD
	bytes += unknown_0(address);
	key->kind += unknown_0(address);
	key->source += unknown_0(address);
	key->origin += unknown_0(address);
#endif
#ifdef LATENCY
	if (key->origin != ORIGIN_FORK)
		ns = ns_in_fault();
	detail.latency = log2_slot(ns);
#endif
#ifdef TOLD
	set_place(&detail, key->tgid, vma);
#endif
#ifdef DETAILS
	set_kind(&detail, ctx, key, STACK_NOW);
	add_detail(&detail, 1, bytes, ns);
#endif
#ifdef SAMPLES
	take_sample(key, &detail, 0);
#endif
#ifdef EVENTS
	emit(key, address, detail.mapping, bytes, ns, 0);
#endif
}

#endif /* DETAIL_H */
