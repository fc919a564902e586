/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Count a fault where the kernel changes the page-table entry, while it holds the
 * page table's lock: a copy where the old entry is cleared, which only the thread
 * does whose copy is mapped; a re-mark in ptep_set_access_flags(). Exact when
 * threads race for a page, and no thread is preempted there.
 */
#ifndef PTE_CHANGE_H
#define PTE_CHANGE_H

#include "detail.h"
#include "find_fault.h"

/*
 * Copies of pages without access rights are left to no_access.h: the kernel flushes the TLB
 * for them only while another thread's flush is pending, see pte_accessible(). `orig_pte`:
 * as the kernel has it, not by present_pte(). It is no hint of NUMA balancing: these
 * handle_pte_fault() leaves to do_numa_page().
 */
#ifdef NO_ACCESS
#define is_counted_elsewhere(orig_pte) (!((orig_pte) & PTE_PRESENT))
#else
#define is_counted_elsewhere(orig_pte) 0
#endif

/* The entry is cleared, to map another page. */
INLINE void entry_replaced(void *ctx, u64 stack, struct changed_entry *entry)
{
	struct fault_key key = {};
	u64 vmf, fault, vma, orig_pte, page, task;
	u32 flags;

	if (!in_region(entry->address))
		return;
	vmf = find_copy(stack, entry);
	if (!vmf)
		return;
	fault = words_at(vmf);
	vma = entry->found_vma;
	orig_pte = word_u64(fault, VMF_ORIG_PTE);
	if (is_counted_elsewhere(orig_pte))
		return;
	flags = word_u32(fault, VMF_FLAGS);
	page = word_u64(fault, VMF_PAGE);
	key.origin = origin_of(flags);
	task = charge(&key, current_tgid(), vma, flags);
	if (page) {	/* so the vma need not be read */
		key.kind = COPIED;
		key.source = source_of(page);
	} else {
		set_replaced(&key, 0, read_kernel_u64(vma, VMA_FLAGS), present_pte(orig_pte));
	}
	count_fault(ctx, &key, task, vma, written_address(vmf, entry->address), PAGE_SIZE, UNDER_LOCK);
}

/* The entry becomes `after`. */
INLINE void entry_changed(void *ctx, u64 stack, struct changed_entry *entry, u64 vm_flags,
			  u64 before, u64 after)
{
	struct fault_key key = { .kind = REUSED, .source = SOURCE_ANON };
	u64 vmf, task;
	u32 flags;

	before = present_pte(before);
	after = present_pte(after);
	if (!(after & PTE_WRITABLE) || (before & (PTE_PRESENT | PTE_WRITABLE)) != PTE_PRESENT)
		return;		/* it was writable, or does not become so: accessed or dirty */
	if (vm_flags & VM_HUGETLB || !in_region(entry->address))
		return;		/* hugetlb: counted by huge.h */
	vmf = find_re_mark(stack, entry);
	if (!vmf)
		return;
	if (vm_flags & VM_SHARED) {
		key.kind = SHARED;
		key.source = SOURCE_FILE;
	}
	flags = read_kernel_u32(vmf, VMF_FLAGS);
	key.origin = origin_of(flags);
	task = charge(&key, current_tgid(), entry->vma, flags);
	count_fault(ctx, &key, task, entry->vma, written_address(vmf, entry->address), 0, UNDER_LOCK);
}

#ifdef PLAN_FENTRY
/* A pointer as a number, which the verifier lets us add to: twice negated. */
INLINE u64 number(u64 pointer)
{
	asm volatile("%0 = -%0\n\t%0 = -%0" : "+r"(pointer));
	return pointer;
}

/* flush_tlb_mm_range(mm, start, end, ...) of x86-64, below ptep_clear_flush() */
KFUNC_PROBE(flush_tlb_mm_range)
{
	struct changed_entry entry = { .mm = ctx[0], .address = ctx[1] };

	if (ctx[2] - ctx[1] == PAGE_SIZE)
		entry_replaced(ctx, number((u64)ctx), &entry);
	return 0;
}

/* ptep_set_access_flags(vma, address, ptep, entry, dirty) */
KFUNC_PROBE(ptep_set_access_flags)
{
	struct changed_entry entry = { .vma = ctx[0], .address = ctx[1], .pte = ctx[2] };
	u64 before = load_kernel_u64(ctx[2], 0), vm_flags = load_kernel_u64(ctx[0], VMA_FLAGS);

	entry_changed(ctx, number((u64)ctx), &entry, vm_flags, before, ctx[3]);
	return 0;
}

#else	/* kprobes */

/* ptep_clear_flush(vma, address, ptep) */
int ptep_clear_flush_enter(struct pt_regs *ctx)
{
	struct changed_entry entry = {
		.vma = PT_REGS_PARM1(ctx), .address = PT_REGS_PARM2(ctx), .pte = PT_REGS_PARM3(ctx),
	};

	entry_replaced(ctx, PT_REGS_SP(ctx), &entry);
	return 0;
}

int ptep_set_access_flags_enter(struct pt_regs *ctx)
{
	struct changed_entry entry = {
		.vma = PT_REGS_PARM1(ctx), .address = PT_REGS_PARM2(ctx), .pte = PT_REGS_PARM3(ctx),
	};

	entry_changed(ctx, PT_REGS_SP(ctx), &entry, read_kernel_u64(entry.vma, VMA_FLAGS),
		      read_kernel_u64(entry.pte, 0), PT_REGS_PARM4(ctx));
	return 0;
}

#endif
#endif /* PTE_CHANGE_H */
