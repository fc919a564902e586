/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sample copies: what was written (written.h), or registers and the top of the stack. From
 * these, user space unwinds programs without frame pointers, such as nearly all of
 * Debian's, by their DWARF tables: cowtrace/symbolizer/unwind.py.
 */
#ifndef SAMPLE_H
#define SAMPLE_H

#include "count.h"
#include "python_frames.h"
#include "user_regs.h"
#include "written.h"

#ifdef SAMPLES

BPF_RINGBUF_OUTPUT(samples, MAP_SIZE);	/* when it is full, LOSS_SAMPLES_DROPPED */

/*
 * Of one CPU: in a round, its first SAMPLES_PER_RATE copies are sampled, then every second in
 * the mean, then every fourth... The steps are random: programs write different objects in turn,
 * and of these a constant step would take the same one again and again.
 */
struct sampling {
	u32 round;
	u32 taken;	/* samples in this round */
	u32 copies;	/* since the last sample */
	u32 next;	/* so many copies make the next sample; 0: it is not drawn yet */
};
BPF_PERCPU_ARRAY(samplings, struct sampling, 1);
/* After as many samples, the rate is halved. A stack takes long to unwind. */
#ifdef SAMPLED_STACKS
#define SAMPLES_PER_RATE 32
#else
#define SAMPLES_PER_RATE 2048
#endif
#define MOST_HALVINGS	20	/* of the rate */

struct sample_record {
	struct sample sample;
	struct python_frames frames;
#ifdef OBJECTS
	struct written written;
#endif
#ifdef SAMPLED_STACKS
	struct stack_dump stack;
#endif
};

#ifdef SAMPLED_STACKS
/*
 * Copy up to DUMP_BYTES of the user stack; near the stack's beginning there are
 * fewer. Skip a page whose fault is not resolved: reading it marks its entry as
 * accessed, so the kernel finds the entry changed, discards its copy, and the
 * write faults again.
 */
INLINE u32 read_dump(u8 *dump, u64 stack, u64 faulting)
{
	if (faulting >= (stack & -(u64)PAGE_SIZE) && faulting < stack + DUMP_BYTES)
		return 0;
	if (!bpf_probe_read_user(dump, DUMP_BYTES, (void *)stack))
		return DUMP_BYTES;
	if (!bpf_probe_read_user(dump, DUMP_BYTES / 4, (void *)stack))
		return DUMP_BYTES / 4;
	if (!bpf_probe_read_user(dump, DUMP_BYTES / 16, (void *)stack))
		return DUMP_BYTES / 16;
	if (!bpf_probe_read_user(dump, DUMP_BYTES / 64, (void *)stack))
		return DUMP_BYTES / 64;
	return 0;
}

INLINE void dump_stack(struct stack_dump *stack, u64 unresolved)
{
	u64 regs = user_regs();

	stack->pad = 0;
	stack->dump_bytes = 0;
	bpf_probe_read_kernel(stack->regs, sizeof(stack->regs), (void *)regs);
	if (regs)
		stack->dump_bytes = read_dump(stack->dump, stack->regs[USER_SP], unresolved);
}
#endif

/* 1 to 2 ** (halvings + 1) - 1; 2 ** halvings in the mean. */
INLINE u32 random_step(u32 halvings)
{
	u32 most = (1U << (halvings < MOST_HALVINGS ? halvings : MOST_HALVINGS)) * 2 - 1;

	return 1 + bpf_get_prandom_u32() % most;
}

/*
 * After the sum of `fault`, which sets its half. `unresolved`: the address if its fault is
 * not resolved yet, else 0.
 */
INLINE void take_sample(const struct fault_key *fault, const struct detail_key *place,
			u64 address, u64 unresolved)
{
	struct runtime *runtime;
	struct sample_record *record;
	struct sample *sample;
	struct reader reader;
	u32 zero = 0, faults, now, tgid = fault->tgid;
	struct sampling *sampling;

	if (fault->kind != COPIED && fault->kind != FILE_COPIED)
		return;
	sampling = samplings.lookup(&zero);
	if (!sampling || fault->tgid != current_tgid())
		return;
	now = current_round();
	if (sampling->round != now) {
		sampling->round = now;
		sampling->taken = 0;
		sampling->next = 0;
	}
	faults = ++sampling->copies;
	if (!sampling->next)
		sampling->next = random_step(sampling->taken / SAMPLES_PER_RATE);
	if (faults < sampling->next)
		return;
	sampling->taken++;
	sampling->next = 0;
	record = samples.ringbuf_reserve(sizeof(*record));
	if (!record) {	/* the next sample stands for these copies, too */
		count_loss(LOSS_SAMPLES_DROPPED);
		return;
	}
	sampling->copies = 0;
	sample = &record->sample;
	sample->address = address;
	sample->mapping = place->mapping;
	sample->tgid = fault->tgid;
	sample->generation = place->generation;
	sample->kind = fault->kind;
	sample->source = fault->source;
	sample->origin = fault->origin;
	sample->half = fault->half;
	sample->faults = faults;
	reader = reader_of(unresolved);
	runtime = runtimes.lookup(&tgid);	/* before 5.19, no key may lie in the ring buffer */
	read_python_frames(&record->frames, runtime, &reader);
#ifdef OBJECTS
	read_written(&record->written, runtime, &reader, address);
#endif
#ifdef SAMPLED_STACKS
	dump_stack(&record->stack, unresolved);
#endif
	samples.ringbuf_submit(record, 0);
}

#else
INLINE void take_sample(const struct fault_key *fault, const struct detail_key *place,
			u64 address, u64 unresolved) {}
#endif /* SAMPLES */
#endif /* SAMPLE_H */
