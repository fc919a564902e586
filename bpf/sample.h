/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Some copies with their registers and the top of their stack. Programs that
 * keep no frame pointers, as nearly all of Debian's, can be unwound from these,
 * by their DWARF tables in user space: cowtrace/tracer/unwind.py.
 */
#ifndef SAMPLE_H
#define SAMPLE_H

#include "count.h"

#ifdef SAMPLES

#define THREAD_SIZE	(PAGE_SIZE > 16384 ? PAGE_SIZE : 16384)	/* without KASAN */
#define REGS_BYTES	(8 * REGS_WORDS)

BPF_RINGBUF_OUTPUT(samples, SAMPLE_PAGES);	/* when it is full, LOSS_SAMPLES_DROPPED */

/* Of one CPU. All of its first PATIENCE copies in a round are taken, then every second, fourth... */
struct sampling {
	u32 round;
	u32 taken;	/* in this round */
	u32 passed;	/* since the last one that was taken */
};
BPF_PERCPU_ARRAY(samplings, struct sampling, 1);
#define PATIENCE 128

/*
 * task_pt_regs(): at the end of the kernel stack, behind two words of padding
 * where the kernel knows FRED ("x86/fred: Reserve space for the FRED stack frame", 6.9).
 */
INLINE int read_user_regs(u64 *regs)
{
	u64 end = read_u64(bpf_get_current_task(), TASK_STACK) + THREAD_SIZE;

	bpf_probe_read_kernel(regs, REGS_BYTES, (void *)(end - PT_REGS_BYTES));
	if (user_mode(regs))
		return 1;
	bpf_probe_read_kernel(regs, REGS_BYTES, (void *)(end - 16 - PT_REGS_BYTES));
	return user_mode(regs);
}

/*
 * As much as there is: less than DUMP_BYTES near the beginning of a stack. Not
 * of a page whose fault is going on: to read it marks its entry as accessed, the
 * kernel finds the entry changed, throws its copy away, and it faults once more.
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

/* `faulting`: an address whose fault is not resolved yet, else 0. */
INLINE void take_sample(const struct fault_key *fault, const struct detail_key *place,
			u64 faulting)
{
	struct sample *sample;
	u32 zero = 0, faults;
	struct sampling *sampling = samplings.lookup(&zero);

	if (fault->kind != COPIED && fault->kind != FILE_COPIED)
		return;
	if (!sampling || fault->tgid != current_tgid())
		return;
	if (sampling->round != current_round()) {
		sampling->round = current_round();
		sampling->taken = 0;
	}
	faults = ++sampling->passed;
	if (faults < 1 << (sampling->taken / PATIENCE & 31))
		return;
	sampling->taken++;
	sampling->passed = 0;
	sample = samples.ringbuf_reserve(sizeof(*sample));
	if (!sample) {
		lose(LOSS_SAMPLES_DROPPED);
		return;
	}
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

#endif /* SAMPLES */
#endif /* SAMPLE_H */
