/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Count copies of pages without access rights (PROT_NONE), for the fentry plan, which
 * counts a copy by its flush of the TLB (pte_change.h): ptep_clear_flush() makes none
 * where no CPU may use the old entry. No instruction can write such a page, but the kernel
 * can: for a debugger, where the page table shows the page before and after; or to unmerge
 * what KSM merged, where each fault is a copy, unless the page is on the move.
 * What else writes one is not seen: cowtrace/kernel/limits.py.
 */
#ifndef NO_ACCESS_H
#define NO_ACCESS_H

#include "classify.h"
#include "detail.h"
#include "lost_race.h"
#include "page_table.h"
#include "vma.h"

#define MOST_THREADS	1024	/* in one of these functions at the same time */
#define FOLL_WRITE	1
#define PAGES_AT_ONCE	2	/* /proc/PID/mem writes up to PAGE_SIZE bytes at once, ptrace fewer */
#define MADV_UNMERGEABLE 13

/* What a write can do to a page. */
enum fate {
	NO_COPY,	/* it has access rights, or is the process's own, or nothing is mapped */
	MAY_BE_COPIED,
	SWAPPED,	/* or it moves: read and copied in one fault, or only read */
};

struct written_page {
	u64 before;	/* its entry, as by present_huge() */
	u8 fate;
	u8 source;	/* enum fault_source */
	u8 pad[6];
};

struct remote_write {
	u64 address;	/* of the first page */
	u64 entered;	/* next_claim() before */
	struct written_page pages[PAGES_AT_ONCE];
};

BPF_HASH(remote_writes, u32, struct remote_write, MOST_THREADS);	/* by tid */

INLINE void note_written_page(struct written_page *written, u64 mm, u64 address)
{
	struct mapped page = mapped_at(mm, address);
	u8 source;

	if (!page.no_access) {
		if (page.entry && !(page.entry & PTE_PRESENT) && !page.huge)
			written->fate = SWAPPED;
		return;
	}
	source = source_of_mapped(&page);
	/* In page->flags; the same bit means something else for a page of a file. */
	if ((source == SOURCE_ANON || source == SOURCE_THP) &&
	    read_kernel_u64(page_of(page.entry), 0) >> PG_anon_exclusive & 1)
		return;
	written->before = page.entry;
	written->fate = MAY_BE_COPIED;
	written->source = source + untracked_zero(page.entry);
}

/* __access_remote_vm(mm, address, buffer, bytes, gup_flags) */
KFUNC_PROBE(__access_remote_vm)
{
	u64 mm = ctx[0], last = ctx[1] + (u32)ctx[3] - 1;
	struct remote_write write = { .address = ctx[1] & ~(PAGE_SIZE - 1ULL) };
	u32 tid = current_tid(), fates = 0;
	int i;

	remote_writes.delete(&tid);	/* of a call whose return was skipped */
	if (!(ctx[4] & FOLL_WRITE))
		return 0;
	write.entered = next_claim();
	NO_UNROLL
	for (i = 0; i < PAGES_AT_ONCE; i++) {
		if (write.address + i * PAGE_SIZE <= last)
			note_written_page(&write.pages[i], mm, write.address + i * PAGE_SIZE);
		fates |= write.pages[i].fate;
	}
	if (fates && remote_writes.update(&tid, &write))
		count_loss(LOSS_FAULT_NOT_FOUND);
	return 0;
}

/* If the page has another frame now, its copy was mapped. */
INLINE void count_remote_copy(void *ctx, u64 mm, u64 address, const struct written_page *written,
			      u64 entered)
{
	struct mapped page = mapped_at(mm, address);
	struct fault_key key = { .source = written->source, .origin = ORIGIN_REMOTE };
	u64 vma, task;

	if (!in_region(address) || !page.no_access || page.huge ||
	    !((page.entry ^ written->before) & PTE_FRAME_MASK))
		return;
	vma = find_vma(mm, address);
	if (written->fate == SWAPPED || read_kernel_u64(vma, VMA_MM) != mm) {
		count_loss(LOSS_FAULT_NOT_FOUND);	/* at most: or unmapped meanwhile */
		return;
	}
	if (read_kernel_u64(vma, VMA_FLAGS) & VM_ACCESS)
		return;		/* a hint of NUMA balancing: pte_change.h sees its copy */
	key.kind = key.source == SOURCE_ZERO ? ZERO_FILLED : COPIED;
	task = charge(&key, current_tgid(), vma, FAULT_FLAG_REMOTE);
	if (!lost_race(mm, address, pte_frame(page.entry), entered))
		count_fault(ctx, &key, task, vma, address, PAGE_SIZE, ANYWHERE);
}

KRETFUNC_PROBE(__access_remote_vm)
{
	u32 tid = current_tid();
	struct remote_write *write = remote_writes.lookup(&tid);
	u64 mm = ctx[0], address = ctx[1] & ~(PAGE_SIZE - 1ULL);
	int i;

	if (!write || write->address != address)
		return 0;
	NO_UNROLL
	for (i = 0; i < PAGES_AT_ONCE; i++)
		if (write->pages[i].fate)
			count_remote_copy(ctx, mm, address + i * PAGE_SIZE, &write->pages[i],
					  write->entered);
	remote_writes.delete(&tid);
	return 0;
}

struct unmerge {
	u64 faults;	/* that the kernel had counted for the thread: mm_account_fault(), mm/memory.c */
	u64 zero_pages;	/* of the process, in place of merged ones: use_zero_pages, since 6.6 */
};

BPF_HASH(unmerges, u32, struct unmerge, MOST_THREADS);	/* by tid, as it began */

INLINE struct unmerge read_unmerge(u64 vma)
{
	u64 task = bpf_get_current_task();
	struct unmerge now = {
		.faults = read_kernel_u64(task, TASK_MIN_FLT) + read_kernel_u64(task, TASK_MAJ_FLT),
	};

#ifdef MM_KSM_ZERO_PAGES
	now.zero_pages = read_kernel_u64(read_kernel_u64(vma, VMA_MM), MM_KSM_ZERO_PAGES);
#endif
	return now;
}

/* ksm_madvise(vma, start, end, advice, vm_flags) */
KFUNC_PROBE(ksm_madvise)
{
	u64 vma = ctx[0];
	struct unmerge before = read_unmerge(vma);
	u32 tid = current_tid();

	unmerges.delete(&tid);
	if ((u32)ctx[3] == MADV_UNMERGEABLE && in_region(ctx[1]) &&
	    !(read_kernel_u64(vma, VMA_FLAGS) & VM_ACCESS) && unmerges.update(&tid, &before))
		count_loss(LOSS_FAULT_NOT_FOUND);
	return 0;
}

KRETFUNC_PROBE(ksm_madvise)
{
	struct fault_key key = { .origin = ORIGIN_UNSHARE, .tgid = current_tgid() };
	u32 tid = current_tid();
	struct unmerge *before = unmerges.lookup(&tid), now;
	u64 vma = ctx[0], faults, zero_filled;

	if (!before)
		return 0;
	now = read_unmerge(vma);
	faults = now.faults - before->faults;
	zero_filled = before->zero_pages - now.zero_pages;
	unmerges.delete(&tid);
	if (zero_filled > faults)	/* another thread changed their number */
		zero_filled = 0;
	key.kind = COPIED;
	key.source = SOURCE_KSM;
	count_copies(&key, vma, faults - zero_filled);
	key.kind = ZERO_FILLED;
	key.source = SOURCE_ZERO;
	count_copies(&key, vma, zero_filled);
	return 0;
}

#endif /* NO_ACCESS_H */
