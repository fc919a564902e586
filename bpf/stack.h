/* SPDX-License-Identifier: GPL-2.0-only */
/* Call stacks, each kept once. Not a stack-trace map: that loses stacks whose hashes meet. */
#ifndef STACK_H
#define STACK_H

#include "count.h"

#if defined(USER_STACKS) || defined(KERNEL_STACKS)

/* Never emptied: ids stay valid. When it is full, LOSS_STACKS_FULL. */
BPF_HASH(stacks, u64, struct stack, MAX_STACKS);

/* Too much for the stack of a program. By thread where another may take its turn meanwhile. */
#ifdef PREEMPTIBLE
#define DESKS 1024
BPF_ARRAY(stack_desks, struct stack, DESKS);
#define desk_index() (current_tid() & (DESKS - 1))
#else
BPF_PERCPU_ARRAY(stack_desks, struct stack, 1);
#define desk_index() 0
#endif

/* The id of the current stack; 0 when it cannot be had or kept. */
INLINE u64 note_stack(void *ctx, u64 flags)
{
	u32 index = desk_index();
	struct stack *stack = stack_desks.lookup(&index);
	u64 id = 14695981039346656037ULL;	/* FNV-1a, on words */
	long bytes;
	int i;

	if (!stack)
		return 0;
	bytes = bpf_get_stack(ctx, stack, sizeof(*stack), flags);
	if (bytes <= 0) {
		lose(LOSS_STACKS_FULL);
		return 0;
	}
	/* No branches: the verifier would follow each of them, in each round of the loop. */
	NO_UNROLL
	for (i = 0; i < STACK_DEPTH; i++) {
		stack->addresses[i] &= (8 * i - bytes) >> 63;	/* else of an earlier, deeper one */
		id = (id ^ stack->addresses[i]) * 1099511628211ULL;
	}
	if (!stacks.lookup(&id) && stacks.insert(&id, stack) && !stacks.lookup(&id)) {
		lose(LOSS_STACKS_FULL);
		return 0;
	}
	return id;
}

#endif
#endif /* STACK_H */
