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

/* linux/compiler_types.h is not there to define __always_inline. */
#define INLINE static inline __attribute__((always_inline))

/*
 * The kernel's own memory at any address; 0 where there is none. By
 * bpf_rdonly_cast(), where there is such a thing, a few instructions instead of
 * a call: a pointer to numbers, so that what is loaded is one. The compiler knows
 * calls of helpers only: the mark tells that it is the BTF id of a function.
 */
#ifdef RDONLY_CAST
#define KFUNC_MARK	0x40000000UL
#define READ_DISABLES_FAULTS	0
static u64 (*rdonly_cast)(u64 pointer, u32 type) = (void *)(KFUNC_MARK | RDONLY_CAST);

#define read(width, address) ({							\
	u64 _read;								\
	asm volatile("%0 = *(" #width " *)(%1 + 0)"				\
		     : "=r"(_read) : "r"(rdonly_cast(address, WORDS)));		\
	_read;									\
})

INLINE u64 read_u64(u64 base, u64 offset)
{
	return read(u64, base + offset);
}

INLINE u32 read_u32(u64 base, u64 offset)
{
	return read(u32, base + offset);
}
#else
#define READ_DISABLES_FAULTS	1	/* times, in copy_from_kernel_nofault() */

INLINE u64 read_u64(u64 base, u64 offset)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
	return value;
}

INLINE u32 read_u32(u64 base, u64 offset)
{
	u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
	return value;
}
#endif

/*
 * The same at a constant offset from a pointer whose type the verifier knows: one
 * instruction. In fentry programs that is each argument, and what is loaded
 * through it; in others what known() makes of a pointer.
 */
#if defined(PLAN_FENTRY) || defined(RDONLY_CAST)
#define load(width, base, offset) ({						\
	u64 _value;								\
	asm volatile("%0 = *(" #width " *)(%1 + %2)"				\
		     : "=r"(_value) : "r"((u64)(base)), "i"(offset));		\
	_value;									\
})
#define load_u64(base, offset) load(u64, base, offset)
#define load_u32(base, offset) load(u32, base, offset)
#else
#define load_u64(base, offset) read_u64(base, offset)
#define load_u32(base, offset) read_u32(base, offset)
#endif
#if defined(RDONLY_CAST) && !defined(PLAN_FENTRY)
#define known(pointer) rdonly_cast(pointer, WORDS)
#else
#define known(pointer) (pointer)
#endif

/* vma->vm_flags, include/linux/mm.h: the same in every version. */
#define VM_SHARED	0x8ULL
#define VM_PFNMAP	0x400ULL
#define VM_HUGETLB	0x400000ULL
#define VM_MERGEABLE	0x80000000ULL

/* BPF_XADD: newer clang makes a fetching form of __sync_fetch_and_add(), which 5.10 refuses. */
INLINE void atomic_add(u64 *counter, u64 by)
{
	asm volatile("lock *(u64 *)(%0 + 0) += %1" : : "r"(counter), "r"(by) : "memory");
}

/* Loops, not unrolled: a verifier of 5.3 follows them, and clang is done sooner. */
#define NO_UNROLL _Pragma("clang loop unroll(disable)")

INLINE u32 current_tgid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

INLINE u32 current_tid(void)
{
	return bpf_get_current_pid_tgid();
}

#endif /* KERNEL_H */
