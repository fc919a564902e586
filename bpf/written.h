/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Read what a write changes, for processes that run CPython: words around the written one,
 * the header of the allocator's pool, the beginning of the object, and what the interpreter
 * does. User space explains them: cowtrace/symbolizer/cpython/written.py.
 */
#ifndef WRITTEN_H
#define WRITTEN_H

#include "runtime.h"
#include "user_regs.h"

#ifdef OBJECTS

#define POOL_ALIGNMENT	16	/* ALIGNMENT of Objects/obmalloc.c, as the next ones */
#define POOL_OVERHEAD	48	/* the size of struct pool_header */
#define POOL_CLASSES	64	/* more than there are */
#define POOL_BYTES	16384	/* POOL_SIZE since CPython 3.10 */
#define SMALL_POOL_BYTES 4096	/* before */

/* The beginning of the block that holds an address of this pool; 0: it is no pool, or its header. */
INLINE u64 block_of(const u64 *pool, u64 start, u32 pool_bytes, u64 address)
{
	u32 size_class = pool[4] >> 32, last = pool[5] >> 32;
	u64 bytes, offset = address - start;

	if (size_class >= POOL_CLASSES || offset < POOL_OVERHEAD)
		return 0;
	bytes = (size_class + 1) * POOL_ALIGNMENT;
	if (last != pool_bytes - bytes)
		return 0;
	offset -= POOL_OVERHEAD;
	return start + POOL_OVERHEAD + offset / bytes * bytes;
}

INLINE void read_phase(struct written *written, const struct runtime *runtime,
		       const struct reader *reader)
{
	written->finalizing = read_word(reader, runtime->finalizing);
	written->collecting = read_word(reader, runtime->collecting);
	written->counts[0] = read_word(reader, runtime->counts[0]);
	written->counts[1] = read_word(reader, runtime->counts[1]);
	written->has_phase = runtime->counts[0] ? PHASE : PHASE_WITHOUT_GENERATION;
}

INLINE void read_written(struct written *written, const struct runtime *runtime,
			 const struct reader *reader, u64 address)
{
	u64 regs = user_regs(), pool;

	__builtin_memset(written, 0, sizeof(*written));
	written->pool_bytes = runtime && runtime->pool_bytes == SMALL_POOL_BYTES ? SMALL_POOL_BYTES : POOL_BYTES;
	written->unread = reader->page && !reader->frame;
	written->ip = regs ? read_kernel_u64(regs, 8 * USER_IP) : 0;
	written->sp = regs ? read_kernel_u64(regs, 8 * USER_SP) : 0;
	read_words(reader, written->near, (address & ~7ULL) - 8 * WORDS_BELOW);
	pool = address & -(u64)written->pool_bytes;
	read_words(reader, written->pool, pool);
	written->block = block_of(written->pool, pool, written->pool_bytes, address);
	if (written->block)
		read_words(reader, written->head, written->block);
	if (runtime)
		read_phase(written, runtime, reader);
}

#endif /* OBJECTS */
#endif /* WRITTEN_H */
