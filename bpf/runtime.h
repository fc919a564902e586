/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Know which processes run an interpreter and where it keeps its state; read memory of the
 * current process while a fault is handled.
 */
#ifndef RUNTIME_H
#define RUNTIME_H

#include "count.h"
#ifdef PAGE_TABLE
#include "page_table.h"
#endif

#ifdef SAMPLES

/*
 * By tgid: where an interpreter keeps its state. Added by user space once it has found it,
 * and for each process that one of these forks. Full: the phase of its copies is unknown.
 */
BPF_HASH(runtimes, u32, struct runtime, MAP_SIZE);

/* A process forks: its child has the same memory. */
INLINE void inherit_runtime(u32 parent, u32 child)
{
	struct runtime *runtime = runtimes.lookup(&parent), copy;

	runtimes.delete(&child);	/* of an earlier process with that pid */
	if (!runtime)
		return;
	copy = *runtime;
	runtimes.update(&child, &copy);
}

INLINE void forget_runtime(u32 tgid)
{
	runtimes.delete(&tgid);
}

/* What is read in one sample. */
struct reader {
	u64 page;	/* whose fault is not resolved; 0: none */
	u64 frame;	/* where the kernel maps its frame; 0: unknown */
};

/*
 * A page whose fault is not resolved is read by its frame: see read_dump(). Where the
 * frame is unknown, it is not read.
 */
INLINE struct reader reader_of(u64 unresolved)
{
	struct reader reader = {};

	if (!unresolved)
		return reader;
	reader.page = unresolved & -(u64)PAGE_SIZE;
#ifdef PAGE_TABLE
	{
		u64 mm = read_kernel_u64(bpf_get_current_task(), TASK_MM);
		struct mapped page = mapped_at(mm, reader.page);

		if (page.entry & PTE_PRESENT)
			reader.frame = address_of(PAGE_OFFSET_BASE) +
				       (page.entry & PTE_FRAME_MASK & address_of(PHYSICAL_MASK));
	}
#endif
	return reader;
}

#define page_at(address) ((address) & -(u64)PAGE_SIZE)

/* 0 where it cannot be read. */
INLINE u64 read_word(const struct reader *reader, u64 address)
{
	u64 word = 0;

	if (reader->page && (page_at(address) == reader->page ||
			     page_at(address + 7) == reader->page)) {
		if (reader->frame && page_at(address) == page_at(address + 7))
			word = read_kernel_u64(reader->frame + (address & (PAGE_SIZE - 1)), 0);
	} else {
		bpf_probe_read_user(&word, sizeof(word), (void *)address);
	}
	return word;
}

#define read_words(reader, words, address) ({					\
	int _i;									\
	NO_UNROLL								\
	for (_i = 0; _i < (int)(sizeof(words) / 8); _i++)			\
		(words)[_i] = read_word(reader, (address) + 8 * _i);		\
})

#else
INLINE void inherit_runtime(u32 parent, u32 child) {}
INLINE void forget_runtime(u32 tgid) {}
#endif /* SAMPLES */
#endif /* RUNTIME_H */
