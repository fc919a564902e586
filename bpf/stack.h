/* SPDX-License-Identifier: GPL-2.0-only */
/* Store each call stack once. Not a stack-trace map: that drops stacks whose hashes collide. */
#ifndef STACK_H
#define STACK_H

#include "count.h"

#if defined(USER_STACKS) || defined(KERNEL_STACKS)

/* Stacks are never deleted: ids stay valid. When it is full, LOSS_STACKS_FULL. */
BPF_HASH(stacks, u64, struct stack, MAP_SIZE);

/*
 * Random numbers from user space. A process chooses its own return addresses: without
 * a secret it could make two stacks that share an id.
 */
struct stack_secret {
	u64 seed;
	u64 first, second;	/* factors */
};
BPF_ARRAY(stack_secret, struct stack_secret, 1);

/* Too large for a program's own stack. By thread where one program can preempt another. */
#ifdef PREEMPTIBLE
#define STACK_BUFFERS 1024
BPF_ARRAY(stack_buffers, struct stack, STACK_BUFFERS);
#define buffer_index() (current_tid() & (STACK_BUFFERS - 1))
#else
BPF_PERCPU_ARRAY(stack_buffers, struct stack, 1);
#define buffer_index() 0
#endif

/* Returns the id of the current stack of `owner`; 0 when it cannot be read or stored. */
INLINE u64 note_stack(void *ctx, u64 flags, u32 owner)
{
	u32 index = buffer_index(), zero = 0;
	struct stack *stack = stack_buffers.lookup(&index);
	struct stack_secret *secret = stack_secret.lookup(&zero);
	u64 id, first, second;
	long bytes;
	int i;

	if (!stack || !secret)
		return 0;
	id = secret->seed ^ owner;
	first = secret->first | 1;
	second = secret->second | 1;
	bytes = bpf_get_stack(ctx, stack, sizeof(*stack), flags);
	if (bytes <= 0) {
		count_loss(LOSS_STACKS_FULL);
		return 0;
	}
	/* No branches: the verifier would follow each of them, in each round of the loop. */
	NO_UNROLL
	for (i = 0; i < STACK_DEPTH; i++) {
		stack->addresses[i] &= (8 * i - bytes) >> 63;	/* clears addresses of a deeper stack */
		/* Twice: one product would change in its top bit alone when a word does. */
		id = (id ^ stack->addresses[i]) * first;
		id = (id ^ id >> 32) * second;
	}
	if (!stacks.lookup(&id) && stacks.insert(&id, stack) && !stacks.lookup(&id)) {
		count_loss(LOSS_STACKS_FULL);
		return 0;
	}
	return id;
}

#endif

#define STACK_NOW -1ULL	/* as `noted`: no stack was noted before the fault */

#ifdef USER_STACKS
/* `noted`, or the current stack; 0 if the current process does not own the memory. */
INLINE u64 note_user_stack(void *ctx, u32 owner, u64 noted)
{
	if (owner != current_tgid())
		return 0;
	return noted == STACK_NOW ? note_stack(ctx, BPF_F_USER_STACK, owner) : noted;
}
#else
INLINE u64 note_user_stack(void *ctx, u32 owner, u64 noted) { return 0; }
#endif

#ifdef KERNEL_STACKS
INLINE u64 note_kernel_stack(void *ctx)
{
	return note_stack(ctx, 0, 0);
}
#else
INLINE u64 note_kernel_stack(void *ctx) { return 0; }
#endif

#endif /* STACK_H */
