/* SPDX-License-Identifier: GPL-2.0-only */
/* Page-table entries and registers of x86-64: see arch.h. */
#ifndef ARCH_X86_64_H
#define ARCH_X86_64_H

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

#endif /* ARCH_X86_64_H */
