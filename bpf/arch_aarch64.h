/* SPDX-License-Identifier: GPL-2.0-only */
/* Page-table entries and registers of arm64: see arch.h. */
#ifndef ARCH_AARCH64_H
#define ARCH_AARCH64_H

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

#endif /* ARCH_AARCH64_H */
