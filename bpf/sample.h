/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sample copies with their registers and the top of their stack. From these, user
 * space unwinds programs without frame pointers, such as nearly all of Debian's,
 * by their DWARF tables: cowtrace/tracer/unwind.py.
 */
#ifndef SAMPLE_H
#define SAMPLE_H

#include "count.h"

#ifdef SAMPLES

#define THREAD_SIZE	(PAGE_SIZE > 16384 ? PAGE_SIZE : 16384)	/* without KASAN */
#define REGS_BYTES	(8 * REGS_WORDS)

BPF_RINGBUF_OUTPUT(samples, MAP_SIZE);	/* when it is full, LOSS_SAMPLES_DROPPED */

/* Of one CPU: in a round, its first SAMPLES_PER_RATE copies are sampled, then every second... */
struct sampling {
	u32 round;
	u32 taken;	/* samples in this round */
	u32 copies;	/* since the last sample */
};
BPF_PERCPU_ARRAY(samplings, struct sampling, 1);
#define SAMPLES_PER_RATE 32	/* after as many samples, the rate is halved */

/*
 * task_pt_regs(): at the end of the kernel stack, before two words of padding on
 * kernels with FRED ("x86/fred: Reserve space for the FRED stack frame", 6.9).
 */
INLINE int read_user_regs(u64 *regs)
{
	u64 end = read_kernel_u64(bpf_get_current_task(), TASK_STACK) + THREAD_SIZE;

	bpf_probe_read_kernel(regs, REGS_BYTES, (void *)(end - PT_REGS_BYTES));
	if (user_mode(regs))
		return 1;
	bpf_probe_read_kernel(regs, REGS_BYTES, (void *)(end - 16 - PT_REGS_BYTES));
	return user_mode(regs);
}

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

/* `faulting`: the address if its fault is not resolved yet, else 0. */
INLINE void take_sample(const struct fault_key *fault, const struct detail_key *place,
			u64 faulting)
{
	struct sample *sample;
	u32 zero = 0, faults, now;
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
	}
	faults = ++sampling->copies;
	if (faults < 1 << (sampling->taken / SAMPLES_PER_RATE & 31))
		return;
	sampling->taken++;
	sample = samples.ringbuf_reserve(sizeof(*sample));
	if (!sample) {	/* the next sample stands for these copies, too */
		count_loss(LOSS_SAMPLES_DROPPED);
		return;
	}
	sampling->copies = 0;
	sample->mapping = place->mapping;
	sample->tgid = fault->tgid;
	sample->generation = place->generation;
	sample->kind = fault->kind;
	sample->source = fault->source;
	sample->origin = fault->origin;
	sample->pad = 0;
	sample->pad2 = 0;
	sample->faults = faults;
	sample->dump_bytes = 0;
	if (read_user_regs(sample->regs))
		sample->dump_bytes = read_dump(sample->dump, sample->regs[USER_SP],
					       faulting);
	samples.ringbuf_submit(sample, 0);
}

#else
INLINE void take_sample(const struct fault_key *fault, const struct detail_key *place,
			u64 faulting) {}
#endif /* SAMPLES */
#endif /* SAMPLE_H */
