/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Walk the Python frames of the current thread: cowtrace/symbolizer/cpython/frames.py is
 * the same in Python. It names the code, too.
 */
#ifndef PYTHON_FRAMES_H
#define PYTHON_FRAMES_H

#include "runtime.h"
#include "user_regs.h"

#ifdef SAMPLES

/* The thread pointer; 0: unknown. */
INLINE u64 thread_pointer(void)
{
#if defined(USER_THREAD_POINTER)
	u64 regs = user_regs();

	return regs ? read_kernel_u64(regs, 8 * USER_THREAD_POINTER) : 0;
#elif defined(TASK_THREAD) && defined(THREAD_POINTER)
	return read_kernel_u64(bpf_get_current_task(), TASK_THREAD + THREAD_POINTER);
#else
	return 0;
#endif
}

/* Whether pthread_self() of glibc or musl returns `thread` there. fork() keeps it. */
#if defined(__x86_64__)
#define is_self(thread, pointer) ((thread) == (pointer))
#else
#define is_self(thread, pointer) ((pointer) - (thread) < 4096)
#endif

/*
 * The innermost frame of the thread that holds the GIL, or that held it last; 0: that is
 * not the current one, or it runs no Python.
 */
INLINE u64 innermost_frame(const struct runtime *runtime, const struct reader *reader)
{
	u64 thread = read_word(reader, runtime->gil_holder), self = thread_pointer(), frame;

	if (!thread || !self || !is_self(read_word(reader, thread + runtime->thread_id), self))
		return 0;
	frame = read_word(reader, thread + runtime->frame);
	if (frame && runtime->frame_in != NO_OFFSET)
		frame = read_word(reader, frame + runtime->frame_in);
	return frame;
}

INLINE void read_python_frames(struct python_frames *frames, const struct runtime *runtime,
			       const struct reader *reader)
{
	struct python_frame *one;
	u64 frame, word;
	u32 i;

	frames->pad = 0;
	frames->count = 0;
	if (!runtime)
		return;
	frame = innermost_frame(runtime, reader);
	NO_UNROLL
	for (i = 0; i < PYTHON_FRAMES; i++) {
		if (!frame)
			break;
		one = &frames->frames[i];
		one->pad = 0;
		one->code = read_word(reader, frame + runtime->code) & runtime->code_mask;
		word = read_word(reader, frame + runtime->instruction);
		one->instruction = runtime->instruction_bytes == 4 ? (u32)word : word;
		one->flags = runtime->flags == NO_OFFSET ? 0 :
			     read_word(reader, frame + runtime->flags) & 0xffff;
		frames->count = i + 1;
		frame = read_word(reader, frame + runtime->previous);
	}
}

#endif /* SAMPLES */
#endif /* PYTHON_FRAMES_H */
