/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Count copies of pages without access rights (PROT_NONE), for the fentry plan, which
 * counts a copy by its flush of the TLB (pte_change.h): ptep_clear_flush() makes none
 * where no CPU may use the old entry. Only the kernel copies such a page: for another
 * process's write, where the page table shows it before and after; or to unmerge pages
 * that KSM merged, where each fault is a copy.
 */
#ifndef NO_ACCESS_H
#define NO_ACCESS_H

#include "classify.h"
#include "detail.h"
#include "lost_race.h"
#include "page_table.h"
#include "vma.h"

#define MOST_THREADS	1024	/* in one of these functions at the same time */
#define VM_ACCESS	0x7ULL	/* VM_READ | VM_WRITE | VM_EXEC */

#ifdef REMOTE_WRITES
#define FOLL_WRITE	1
#define PAGES_AT_ONCE	2	/* /proc/PID/mem writes up to PAGE_SIZE bytes at once, ptrace fewer */

/* Pages before a write. */
struct remote_write {
	u64 entered;	/* next_claim() then */
	u64 before[PAGES_AT_ONCE];	/* the entry; 0: not without access rights, or no entry */
	u8 source[PAGES_AT_ONCE];	/* enum fault_source */
	u8 pad[8 - PAGES_AT_ONCE];
};

BPF_HASH(remote_writes, u32, struct remote_write, MOST_THREADS);	/* by tid */

/* __access_remote_vm(mm, address, buffer, bytes, gup_flags) */
KFUNC_PROBE(__access_remote_vm)
{
	u64 mm = ctx[0], address = ctx[1] & ~(PAGE_SIZE - 1ULL);
	u64 last = ctx[1] + (u32)ctx[3] - 1;
	struct remote_write write = {};
	u32 tid = current_tid(), found = 0;
	int i;

	if (!(ctx[4] & FOLL_WRITE))
		return 0;
	NO_UNROLL
	for (i = 0; i < PAGES_AT_ONCE && address <= last; i++, address += PAGE_SIZE) {
		struct mapped page = mapped_at(mm, address);

		if (!page.no_access)
			continue;
		found = 1;
		write.before[i] = page.entry;
		write.source[i] = untracked_zero(page.entry) +
			(page.entry & ENTRY_SPECIAL ? SOURCE_ZERO : source_of(page_of(page.entry)));
	}
	if (found) {
		write.entered = next_claim();
		if (remote_writes.update(&tid, &write))
			count_loss(LOSS_FAULT_NOT_FOUND);
	}
	return 0;
}

/* A page's frame has changed: in memory without access rights, its copy is mapped now. */
INLINE void count_remote_copy(void *ctx, u64 mm, u64 address, u64 before, u8 source, u64 entered)
{
	struct mapped page = mapped_at(mm, address);
	struct fault_key key = { .source = source, .origin = ORIGIN_REMOTE };
	u64 vma, task;

	if (!in_region(address) || !page.no_access || page.huge ||
	    !((page.entry ^ before) & PTE_FRAME_MASK))
		return;
	vma = find_vma(mm, address);
	/* Elsewhere it is NUMA's hint, and the write removed that first. */
	if (read_kernel_u64(vma, VMA_MM) != mm || read_kernel_u64(vma, VMA_FLAGS) & VM_ACCESS)
		return;
	key.kind = source == SOURCE_ZERO ? ZERO_FILLED : COPIED;
	task = charge(&key, current_tgid(), vma, FAULT_FLAG_REMOTE);
	if (!lost_race(key.tgid, address, pte_frame(page.entry), entered))
		count_fault(ctx, &key, task, vma, address, PAGE_SIZE, ANYWHERE);
}

KRETFUNC_PROBE(__access_remote_vm)
{
	u32 tid = current_tid();
	struct remote_write *write = remote_writes.lookup(&tid);
	u64 mm = ctx[0], address = ctx[1] & ~(PAGE_SIZE - 1ULL);
	int i;

	if (!write)
		return 0;
	NO_UNROLL
	for (i = 0; i < PAGES_AT_ONCE; i++, address += PAGE_SIZE)
		if (write->before[i])
			count_remote_copy(ctx, mm, address, write->before[i], write->source[i],
					  write->entered);
	remote_writes.delete(&tid);
	return 0;
}
#endif /* REMOTE_WRITES */

#ifdef KSM_UNMERGES
#define MADV_UNMERGEABLE	13

BPF_HASH(ksm_unmerges, u32, u64, MOST_THREADS);	/* by tid: its faults before */

/* The faults that the kernel has counted for this thread: mm_account_fault() in mm/memory.c. */
INLINE u64 faults_of_current(void)
{
	u64 task = bpf_get_current_task();

	return read_kernel_u64(task, TASK_MIN_FLT) + read_kernel_u64(task, TASK_MAJ_FLT);
}

/* ksm_madvise(vma, start, end, advice, vm_flags) */
KFUNC_PROBE(ksm_madvise)
{
	u64 faults = faults_of_current();
	u32 tid = current_tid();

	if ((u32)ctx[3] == MADV_UNMERGEABLE && in_region(ctx[1]) &&
	    !(read_kernel_u64(ctx[0], VMA_FLAGS) & VM_ACCESS) && ksm_unmerges.update(&tid, &faults))
		count_loss(LOSS_FAULT_NOT_FOUND);
	return 0;
}

KRETFUNC_PROBE(ksm_madvise)
{
	struct fault_key key = { .kind = COPIED, .source = SOURCE_KSM, .origin = ORIGIN_UNSHARE };
	u32 tid = current_tid();
	u64 *before = ksm_unmerges.lookup(&tid), faults;

	if (!before)
		return 0;
	faults = faults_of_current() - *before;
	ksm_unmerges.delete(&tid);
	key.tgid = current_tgid();
	if (faults)
		count_copies(&key, ctx[0], faults);
	return 0;
}
#endif /* KSM_UNMERGES */

#endif /* NO_ACCESS_H */
