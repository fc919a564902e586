/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Count write faults on pages mapped by one huge entry: hugetlb, and transparent
 * huge pages that are not split. The fentry plan uses BPF trampolines where these
 * functions have any, else kprobes, as the kprobe plan does: kernel/hooks.py.
 */
#ifndef HUGE_H
#define HUGE_H

#include "classify.h"
#include "detail.h"
#include "pair.h"

INFLIGHT(huge_inflight);

INLINE int match_huge_return(struct inflight *slot, u32 tid)
{
	if (match_return(slot, tid))
		return 1;
	if (!slot->tid)
		count_loss(LOSS_ENTRY_MISSED);
	return 0;
}

INLINE u64 read_entry(u64 at)
{
	u64 entry = read_kernel_u64(at, 0);

	return present_huge(entry);
}

/* Like classify_wp(), for an entry that maps a whole huge page. */
INLINE u8 classify_huge(u64 before, u64 after, u32 ret, u64 vm_flags)
{
	if (ret & VM_FAULT_ERROR)
		return FAILED;
	if (ret & VM_FAULT_RETRY || after == before)
		return UNCHANGED;
	if (!(after & PTE_PRESENT))
		return UNCLASSIFIED;
	if (vm_flags & VM_SHARED)
		return after & PTE_WRITABLE ? SHARED : UNCHANGED;
	if ((after ^ before) & HUGE_FRAME_MASK)
		return COPIED;
	return after & PTE_WRITABLE ? REUSED : UNCHANGED;
}

INLINE void count_huge(void *ctx, struct inflight *slot, u64 vma, u64 address, u8 kind,
		       u8 source, u64 bytes)
{
	struct fault_key key = { .kind = kind, .source = source };
	u64 task;

	if (!is_counted(kind))
		return;
	key.origin = origin_of(slot->flags);
	task = charge(&key, current_tgid(), vma, slot->flags);
	count_fault(ctx, &key, task, vma, address,
		    kind == COPIED || kind == ZERO_FILLED ? bytes : 0, ANYWHERE);
}

#ifdef HUGETLB_WP
/*
 * In flags: no page was mapped. A first write to private memory maps a new page
 * read-only and calls hugetlb_wp(), which marks it writable: not a second fault.
 */
#define FIRST_TOUCH	0x80000000U

/* huge_page_size() of the mapping's file: hstate_vma() in include/linux/hugetlb.h. */
INLINE u64 hugetlb_bytes(u64 vma)
{
	u64 inode = read_kernel_u64(read_kernel_u64(vma, VMA_FILE), FILE_INODE);
	u64 fs_info = read_kernel_u64(read_kernel_u64(inode, INODE_SB), SB_FS_INFO);
	u64 hstate = read_kernel_u64(fs_info, HUGETLBFS_HSTATE);

	return (u64)PAGE_SIZE << read_kernel_u32(hstate, HSTATE_ORDER);
}

#ifdef HUGETLB_FENTRY	/* the number of the function's arguments */
#define hugetlb_argument(n) ctx[n - 1]
#define HUGETLB_RESULT ctx[HUGETLB_FENTRY]
#else
#define hugetlb_argument(n) PT_REGS_PARM##n(ctx)
#define HUGETLB_RESULT PT_REGS_RC(ctx)
#endif

#if !defined(HUGETLB_FENTRY)
int hugetlb_wp_enter(struct pt_regs *ctx)
#elif HUGETLB_WP == 2
KFUNC_PROBE(hugetlb_cow)
#else
KFUNC_PROBE(hugetlb_wp)
#endif
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = huge_inflight.lookup(&index);
#if HUGETLB_WP == 1 || HUGETLB_WP == 4
	u64 vmf;
#endif

	if (!slot)
		return 0;
	note_entry(slot, tid);
#if HUGETLB_WP == 1 || HUGETLB_WP == 4
#if HUGETLB_WP == 1	/* hugetlb_wp(vmf) */
	vmf = hugetlb_argument(1);
#else			/* hugetlb_wp(pagecache_folio, vmf) */
	vmf = hugetlb_argument(2);
#endif
	slot->vma = read_kernel_u64(vmf, VMF_VMA);
	slot->address = read_kernel_u64(vmf, VMF_ADDRESS);
	slot->entry = read_kernel_u64(vmf, VMF_PTE);
	slot->flags = read_kernel_u32(vmf, VMF_FLAGS);
	if (!(present_huge(read_kernel_u64(vmf, VMF_ORIG_PTE)) & PTE_PRESENT))
		slot->flags |= FIRST_TOUCH;
	slot->before = read_entry(slot->entry);
#else			/* hugetlb_cow or hugetlb_wp(mm, vma, address, ptep, ...) */
	slot->vma = hugetlb_argument(2);
	slot->address = hugetlb_argument(3);
	slot->entry = hugetlb_argument(4);
#if HUGETLB_WP == 3	/* the fifth is flags */
	slot->flags = hugetlb_argument(5);
#else
	slot->flags = FAULT_FLAG_USER;	/* an assumption: the arguments do not show the writer */
#endif
	/* They do not show what was mapped either: a page that was only read counts as one, too. */
	slot->before = read_entry(slot->entry);
	if (!pte_dirty(slot->before))
		slot->flags |= FIRST_TOUCH;
#endif
	return 0;
}

#if !defined(HUGETLB_FENTRY)
int hugetlb_wp_return(struct pt_regs *ctx)
#elif HUGETLB_WP == 2
KRETFUNC_PROBE(hugetlb_cow)
#else
KRETFUNC_PROBE(hugetlb_wp)
#endif
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1), ret = HUGETLB_RESULT;
	struct inflight *slot = huge_inflight.lookup(&index);
	u64 vma;
	u8 kind;

	if (!slot || !match_huge_return(slot, tid) || !in_region(slot->address))
		return 0;
	vma = slot->vma;
	kind = classify_huge(slot->before, read_entry(slot->entry), ret,
			     read_kernel_u64(vma, VMA_FLAGS));
	if (kind != REUSED || !(slot->flags & FIRST_TOUCH))
		count_huge(ctx, slot, vma, slot->address, kind, SOURCE_HUGETLB, hugetlb_bytes(vma));
	return 0;
}
#endif /* HUGETLB_WP */

#ifdef HUGE_PMD
/* True if a huge entry maps the huge zero page. */
INLINE int is_huge_zero(u64 pmd)
{
	u64 huge_zero_pfn = address_of(HUGE_ZERO_PFN);

	/*
	 * Without CAP_SYSLOG it is hidden. No other huge page gets a new frame as a whole
	 * since "thp: change CoW semantics for anon-THP" (5.8).
	 */
	return !huge_zero_pfn ||
	       (pmd & HUGE_FRAME_MASK) >> FRAME_SHIFT == read_kernel_u64(huge_zero_pfn, 0);
}

#ifdef HUGE_PMD_FENTRY	/* the number of the function's arguments */
KFUNC_PROBE(do_huge_pmd_wp_page)
#else
int do_huge_pmd_wp_page_enter(struct pt_regs *ctx)
#endif
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = huge_inflight.lookup(&index);
#ifdef HUGE_PMD_FENTRY
	u64 vmf = ctx[0];
#else
	u64 vmf = PT_REGS_PARM1(ctx);
#endif

	if (!slot)
		return 0;
	note_entry(slot, tid);
	slot->vmf = vmf;
	slot->flags = read_kernel_u32(vmf, VMF_FLAGS);
	slot->entry = read_kernel_u64(vmf, VMF_PMD);
	slot->before = read_entry(slot->entry);
	return 0;
}

/*
 * VM_FAULT_FALLBACK: the kernel split the huge entry into small ones; the fault
 * continues in do_wp_page() and is counted there.
 */
#ifdef HUGE_PMD_FENTRY
KRETFUNC_PROBE(do_huge_pmd_wp_page)
#else
int do_huge_pmd_wp_page_return(struct pt_regs *ctx)
#endif
{
#ifdef HUGE_PMD_FENTRY
	u32 ret = ctx[HUGE_PMD_FENTRY];
#else
	u32 ret = PT_REGS_RC(ctx);
#endif
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct inflight *slot = huge_inflight.lookup(&index);
	u64 vma, address;
	u8 kind;

	if (!slot || !match_huge_return(slot, tid))
		return 0;
	if (ret & VM_FAULT_FALLBACK || !in_region(read_kernel_u64(slot->vmf, VMF_ADDRESS)))
		return 0;
	vma = read_kernel_u64(slot->vmf, VMF_VMA);
	kind = classify_huge(slot->before, read_entry(slot->entry), ret,
			     read_kernel_u64(vma, VMA_FLAGS));
	if (kind == COPIED && is_huge_zero(slot->before))
		kind = ZERO_FILLED;
	address = read_kernel_u64(slot->vmf, VMF_ADDRESS);
	count_huge(ctx, slot, vma, written_address(slot->vmf, address), kind, SOURCE_THP, PMD_SIZE);
	return 0;
}
#endif /* HUGE_PMD */

#endif /* HUGE_H */
