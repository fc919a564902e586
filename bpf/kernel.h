/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Access to kernel structs by offset. The offsets come from this kernel's BTF
 * as -D macros (cowtrace/kernel/plan.py): VMF_PTE is offsetof(struct
 * vm_fault, pte). No kernel headers are needed, none are included.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <linux/types.h>
#include "arch.h"

/* Not __always_inline: linux/compiler_types.h, which defines it, is not included. */
#define INLINE static inline __attribute__((always_inline))

/*
 * Read kernel memory at any address; 0 where nothing is mapped. Where the kernel
 * has bpf_rdonly_cast(), that takes a few instructions instead of a call: the
 * cast makes a pointer to unsigned longs, so that a loaded value is a number.
 * The compiler only knows calls of helpers: KFUNC_MARK marks the BTF id of a
 * kernel function, see cowtrace/tracer/bytecode.py.
 */
#ifdef RDONLY_CAST
#define KFUNC_MARK	0x40000000UL
#define READ_DISABLES_FAULTS	0
static u64 (*rdonly_cast)(u64 pointer, u32 type) = (void *)(KFUNC_MARK | RDONLY_CAST);

#define read_kernel(width, address) ({						\
	u64 _read;								\
	asm volatile("%0 = *(" #width " *)(%1 + 0)"				\
		     : "=r"(_read) : "r"(rdonly_cast(address, WORDS)));		\
	_read;									\
})

INLINE u64 read_kernel_u64(u64 base, u64 offset)
{
	return read_kernel(u64, base + offset);
}

INLINE u32 read_kernel_u32(u64 base, u64 offset)
{
	return read_kernel(u32, base + offset);
}
#else
#define READ_DISABLES_FAULTS	1	/* times, in copy_from_kernel_nofault() */

INLINE u64 read_kernel_u64(u64 base, u64 offset)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
	return value;
}

INLINE u32 read_kernel_u32(u64 base, u64 offset)
{
	u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
	return value;
}
#endif

/*
 * Load kernel memory at a constant offset from a pointer whose type the verifier
 * knows: one instruction. In fentry programs, these are the arguments and each
 * pointer loaded through them; in other programs, results of kernel_pointer().
 */
#if defined(PLAN_FENTRY) || defined(RDONLY_CAST)
#define load_kernel(width, base, offset) ({					\
	u64 _value;								\
	asm volatile("%0 = *(" #width " *)(%1 + %2)"				\
		     : "=r"(_value) : "r"((u64)(base)), "i"(offset));		\
	_value;									\
})
#define load_kernel_u64(base, offset) load_kernel(u64, base, offset)
#define load_kernel_u32(base, offset) load_kernel(u32, base, offset)
#else
#define load_kernel_u64(base, offset) read_kernel_u64(base, offset)
#define load_kernel_u32(base, offset) read_kernel_u32(base, offset)
#endif
#if defined(RDONLY_CAST) && !defined(PLAN_FENTRY)
#define kernel_pointer(pointer) rdonly_cast(pointer, WORDS)
#else
#define kernel_pointer(pointer) (pointer)
#endif

/*
 * Read several words of one struct that does not change meanwhile, at constant offsets
 * from words_at(its address): with bpf_rdonly_cast(), one instruction each. What is not
 * used is not read.
 */
#ifdef RDONLY_CAST
#define words_at(address) rdonly_cast(address, WORDS)
#define word(width, words, offset) ({						\
	u64 _word;								\
	asm("%0 = *(" #width " *)(%1 + %2)" : "=r"(_word) : "r"(words), "i"(offset)); \
	_word;									\
})
#define word_u64(words, offset) word(u64, words, offset)
#define word_u32(words, offset) word(u32, words, offset)
#else
#define words_at(address) (address)
#define word_u64(words, offset) read_kernel_u64(words, offset)
#define word_u32(words, offset) read_kernel_u32(words, offset)
#endif

/*
 * Numbers that the loader puts into the programs, in one instruction each: with KASLR they
 * differ in each boot, or are of a map, which each start creates anew; and the programs are
 * compiled once for a kernel. Marked by their upper half, see cowtrace/tracer/bytecode.py.
 */
#define ADDRESS_MARK	0xc0570000ULL
#define MAP_MARK	0xc0580000ULL
#define marked(mark, number) ({							\
	u64 _marked;								\
	asm("%0 = %1 ll" : "=r"(_marked) : "i"((mark) << 32 | (number)));	\
	_marked;								\
})

/* One of enum kernel_address; 0 where it is hidden, or the kernel has none. */
#define address_of(which) marked(ADDRESS_MARK, which)

/* The element of a map that has only one, without a look-up. One of enum single_map. */
#define only_element(which) ((void *)marked(MAP_MARK, which))

/* vma->vm_flags, include/linux/mm.h: the same in every version. */
#define VM_WRITE	0x2ULL
#define VM_ACCESS	0x7ULL	/* VM_READ | VM_WRITE | VM_EXEC */
#define VM_SHARED	0x8ULL
#define VM_PFNMAP	0x400ULL
#define VM_HUGETLB	0x400000ULL
#define VM_MIXEDMAP	0x10000000ULL
#define VM_MERGEABLE	0x80000000ULL

/* BPF_XADD: newer clang makes a fetching form of __sync_fetch_and_add(), which 5.10 refuses. */
INLINE void atomic_add(u64 *counter, u64 by)
{
	asm volatile("lock *(u64 *)(%0 + 0) += %1" : : "r"(counter), "r"(by) : "memory");
}

/* Keep a loop: verifiers follow loops since 5.3, and clang compiles them sooner. */
#define NO_UNROLL _Pragma("clang loop unroll(disable)")

/*
 * A zero that the verifier cannot track. Added to a value that the verifier knows,
 * it makes the verifier forget that value and prune states: otherwise it follows
 * the rest of the program once for each value that can arrive here.
 */
INLINE u64 untracked_zero(u64 any)
{
	u64 zero;

	asm volatile("%0 = %1\n\t%0 -= %1" : "=&r"(zero) : "r"(any));
	return zero;
}

INLINE u32 current_tgid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

INLINE u32 current_tid(void)
{
	return bpf_get_current_pid_tgid();
}

#endif /* KERNEL_H */
