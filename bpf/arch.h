/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Everything that differs between architectures: page-table entries, registers.
 * BCC defines the architecture's macro, as for its own headers. For user space:
 * cowtrace/kernel/arch.py. PAGE_SHIFT comes from the running kernel.
 */
#ifndef ARCH_H
#define ARCH_H

#include <linux/types.h>

#if defined(__x86_64__)

/* arch/x86/include/asm/pgtable_types.h */
#define PTE_PRESENT	0x1ULL
#define PTE_WRITABLE	0x2ULL
#define PTE_FRAME_MASK	0x000ffffffffff000ULL
#define HUGE_FRAME_MASK	0x000fffffffe00000ULL	/* bit 12 is PAT in a huge entry */
#define pte_dirty(pte)	((pte) & 0x40)
/*
 * 1 for an entry without access rights, in bits that mean something else in a present
 * one: _PAGE_PROTNONE is the Global bit; _PAGE_PSE stays in a huge entry that the
 * kernel has invalidated. An entry of a swapped page has neither.
 */
#define pte_no_access(pte)	((pte) >> 8 & ~(pte) & 1)
#define huge_no_access(pte)	(((pte) >> 8 | (pte) >> 7) & ~(pte) & 1)
/* "x86/speculation/l1tf: Protect PROT_NONE PTEs against speculation", 4.19. */
#define NO_ACCESS_INVERTS	PTE_FRAME_MASK

/* Error code of a page fault: enum x86_pf_error_code. */
#define PF_PROT		0x1
#define PF_WRITE	0x2
#define PF_PK		0x20	/* a protection key forbids it */

/* struct pt_regs: arch/x86/include/asm/ptrace.h. */
#define REGS_ORIG_AX	120
#define REGS_IP		128

/* In words, as user space gets the registers. */
#define REGS_WORDS	21
#define USER_IP		16
#define USER_SP		19
#define USER_MODE	17	/* cs */
#define is_user_mode(cs)	(((cs) & 3) == 3 && (cs) < 0x100)

#elif defined(__aarch64__)

/*
 * arch/arm64/include/asm/pgtable-hwdef.h, pgtable-prot.h. Writable is PTE_WRITE, which is also
 * DBM: with it, PTE_RDONLY only means "clean", and the next write needs no do_wp_page().
 * The frame number ends at bit 47, or at bit 49 with LPA2; without LPA2, 48 and 49 are 0.
 * LPA2 keeps address bits 50 and 51 elsewhere: only a machine with a petabyte has them.
 */
#define PTE_PRESENT	0x1ULL
#define PTE_WRITABLE	(1ULL << 51)
#define PTE_RDONLY	(1ULL << 7)
#define PTE_FRAME_MASK	(((1ULL << (50 - PAGE_SHIFT)) - 1) << PAGE_SHIFT)
#define HUGE_FRAME_MASK	PTE_FRAME_MASK	/* hugetlb also has pages smaller than a huge entry */
/* Set by hardware, or in bit 55 by the kernel when it write-protected the page. */
#define pte_dirty(pte)	((pte) >> 55 & 1 || ((pte) & (PTE_WRITABLE | PTE_RDONLY)) == PTE_WRITABLE)
/*
 * 1 for an entry without access rights: PTE_PROT_NONE is bit 58, in huge entries also
 * PMD_PRESENT_INVALID, bit 59; both are bit 11 since "arm64/mm: Move PTE_PRESENT_INVALID
 * to overlay PTE_NG" (6.11). An older kernel's entry of a swapped page can have bit 11,
 * but not PTE_UXN, bit 54, which every entry without access rights has.
 */
#define pte_no_access(pte)	(((pte) >> 58 | (pte) >> 59 | ((pte) >> 11 & (pte) >> 54)) & ~(pte) & 1)
#define huge_no_access(pte)	pte_no_access(pte)
#define NO_ACCESS_INVERTS	0ULL

/* struct user_pt_regs, in words: regs[31], sp, pc, pstate. */
#define REGS_WORDS	34
#define USER_IP		32
#define USER_SP		31
#define USER_MODE	33	/* pstate */
#define is_user_mode(pstate)	(!((pstate) & 0x1f))	/* PSR_MODE_EL0t */

#else
#error "cowtrace knows the page tables of x86-64 and arm64"
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

#define pte_frame(pte)	(((pte) & PTE_FRAME_MASK) >> PAGE_SHIFT)

#endif /* ARCH_H */
