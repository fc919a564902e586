/* SPDX-License-Identifier: GPL-2.0-only */
/* Page-table entries and registers of riscv64, with tables of 3, 4 or 5 levels: see arch.h. */
#ifndef ARCH_RISCV64_H
#define ARCH_RISCV64_H

/*
 * arch/riscv/include/asm/pgtable-bits.h, pgtable-64.h. A frame number begins at bit 10. Of the
 * upper bits, 54 to 60 are reserved, 61 and 62 are the memory's type, 63 is Svnapot's: in a
 * hugetlb entry of 64 KiB, low bits of the frame number then say how large it is.
 */
#define PTE_PRESENT	0x1ULL
#define PTE_WRITABLE	0x4ULL
#define FRAME_SHIFT	10
#define PTE_FRAME_MASK	(((1ULL << 54) - 1) & ~((1ULL << FRAME_SHIFT) - 1))
#define HUGE_FRAME_MASK	PTE_FRAME_MASK
#define pte_dirty(pte)	((pte) & 0x80)
/*
 * 1 for an entry without access rights: _PAGE_PROT_NONE is the Global bit, 5. A huge entry
 * that the kernel has invalidated keeps the bits of access, 1 to 3. An entry of a swapped
 * page has none of these.
 */
#define pte_no_access(pte)	((pte) >> 5 & ~(pte) & 1)
#define huge_no_access(pte)	(((pte) >> 5 | (pte) >> 1 | (pte) >> 2 | (pte) >> 3) & ~(pte) & 1)
#define NO_ACCESS_INVERTS	0ULL

/* struct pt_regs, in words: epc, x1 to x31, status. */
#define REGS_WORDS	33
#define USER_IP		0
#define USER_SP		2
#define USER_THREAD_POINTER	4	/* x4: in the thread's registers alone */
#define USER_MODE	32	/* status */
#define is_user_mode(status)	(!((status) & 0x100))	/* SR_SPP: it was the kernel */

#endif /* ARCH_RISCV64_H */
