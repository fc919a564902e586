/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Everything that differs between architectures: page-table entries, registers. Each has a
 * file. BCC defines the architecture's macro, as for its own headers. For user space:
 * cowtrace/kernel/arch.py. PAGE_SHIFT comes from the running kernel.
 */
#ifndef ARCH_H
#define ARCH_H

#include <linux/types.h>

#if defined(__x86_64__)
#include "arch_x86_64.h"
#elif defined(__aarch64__)
#include "arch_aarch64.h"
#elif defined(__riscv) && __riscv_xlen == 64
#include "arch_riscv64.h"
#else
#error "cowtrace knows the page tables of x86-64, arm64 and riscv64"
#endif

/* The lowest bit of a frame number in an entry: where an address has it, nearly everywhere. */
#ifndef FRAME_SHIFT
#define FRAME_SHIFT	PAGE_SHIFT
#endif

/*
 * An entry without access rights (PROT_NONE, NUMA hinting) is present to the kernel,
 * though not to the CPU: these return it as a present one. No branches, which the
 * verifier would follow.
 */
static inline __attribute__((always_inline)) __u64 as_present(__u64 pte, __u64 no_access)
{
	return (pte ^ (-no_access & NO_ACCESS_INVERTS)) | no_access;	/* PTE_PRESENT is bit 0 */
}

#define present_pte(pte)	as_present(pte, pte_no_access(pte))
#define present_huge(pte)	as_present(pte, huge_no_access(pte))

#define pte_frame(pte)	(((pte) & PTE_FRAME_MASK) >> FRAME_SHIFT)

#endif /* ARCH_H */
