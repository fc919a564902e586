/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Find the struct vm_fault of the page-table entry that changes. It lies further up the
 * stack, in the frame of __handle_mm_fault(). Its distance depends on the kernel's build
 * and on what else is attached. Where it was last is tried first; each time, it must hold
 * this address and entry. Others clear entries, too: a copy is one only below
 * wp_page_copy().
 */
#ifndef FIND_FAULT_H
#define FIND_FAULT_H

#include "classify.h"

#define MOST_WORDS 96	/* of the stack, that are searched for struct vm_fault */
#define RETURN_WORDS 32	/* likewise for the return into wp_page_copy() */
/* No less than that function has; no other within so many bytes clears an entry. */
#define COPY_CODE_BYTES 4096

/* Where they were last, in bytes up the stack; all CPUs write the same. */
struct places {
	u64 copy_return;	/* the return into wp_page_copy() */
	u64 copy_fault;	/* struct vm_fault of a copy, from there on */
	u64 re_mark_fault;	/* of a re-mark */
};
BPF_ARRAY(places, struct places, 1);

#define place_in_table(address) ((address) >> PAGE_SHIFT << 3 & (PAGE_SIZE - 1))
#define is_copy_code(address, start) ((address) - (start) < COPY_CODE_BYTES)

/* The entry that changes, as a program is passed it. */
struct changed_entry {
	u64 address;	/* that it maps */
	u64 vma;	/* 0: unknown, then `mm` is not */
	u64 mm;
	u64 pte;	/* points to it; 0: unknown, but its place in the table follows from the address */
	u64 found_vma;	/* noted by is_fault_of(): that of the fault, if it is one */
};

/*
 * Whether struct vm_fault of this fault lies there. Saved arguments and what earlier calls left
 * on the stack can look like parts of it.
 */
INLINE int is_fault_of(u64 vmf, struct changed_entry *entry)
{
	u64 fault = words_at(vmf), pte;

	if (word_u64(fault, VMF_ADDRESS) != entry->address)
		return 0;
	pte = word_u64(fault, VMF_PTE);
	if (entry->pte ? pte != entry->pte :
	    !(pte >> 63) || (pte & (PAGE_SIZE - 1)) != place_in_table(entry->address))
		return 0;
	entry->found_vma = word_u64(fault, VMF_VMA);
	return entry->vma ? entry->found_vma == entry->vma :
			    read_kernel_u64(entry->found_vma, VMA_MM) == entry->mm;
}

/*
 * The first word of the stack from there on that holds struct vm_fault of this fault; 0:
 * none. Compares more of it, because this place is tried first from then on.
 */
INLINE u64 search_fault(u64 stack, struct changed_entry *entry)
{
	u64 vmf, fault;
	int i;

	NO_UNROLL
	for (i = 0; i < MOST_WORDS; i++) {
		vmf = stack + 8 * i;
		if (!is_fault_of(vmf, entry))
			continue;
		fault = words_at(vmf);
		if (present_pte(word_u64(fault, VMF_ORIG_PTE)) & PTE_PRESENT &&
		    word_u32(fault, VMF_FLAGS) & (FAULT_FLAG_WRITE | FAULT_FLAG_UNSHARE))
			return vmf;
	}
	return 0;
}

/* Likewise, where it was last or anywhere else; not found: a loss. */
INLINE u64 find_fault(u64 stack, u64 *place, struct changed_entry *entry)
{
	u64 vmf = stack + *place;

	if (is_fault_of(vmf, entry))
		return vmf;
	vmf = search_fault(stack, entry);
	if (vmf)
		*place = vmf - stack;
	else
		count_loss(LOSS_FAULT_NOT_FOUND);
	return vmf;
}

/* Whether a kretprobe or the function-graph tracer has replaced that return address by its own. */
INLINE int is_replaced_return(u64 address, u64 kretprobe, u64 function_graph)
{
	return address && (address == kretprobe || address == function_graph);
}

/* A return was replaced: if the entry belongs to a write fault, its copy is lost. */
INLINE void copy_is_not_found(u64 stack, struct changed_entry *entry)
{
	u64 vmf = search_fault(stack, entry);

	if (vmf && !(read_kernel_u64(entry->found_vma, VMA_FLAGS) & VM_HUGETLB))
		count_loss(LOSS_FAULT_NOT_FOUND);	/* hugetlb: counted by huge.h */
}

/*
 * Where on the stack the return into wp_page_copy() is; 0: not found. Then the entry is
 * cleared for something else.
 */
INLINE u64 search_copy(u64 stack, u64 code, struct changed_entry *entry)
{
	u64 kretprobe = address_of(KRETPROBE_RETURN), function_graph = address_of(GRAPH_RETURN);
	u64 word, replaced = 0;
	int i;

	NO_UNROLL
	for (i = 0; i < RETURN_WORDS; i++) {
		word = read_kernel_u64(stack + 8 * i, 0);
		if (is_copy_code(word, code))
			return stack + 8 * i;
		if (is_replaced_return(word, kretprobe, function_graph))
			replaced = 1;
	}
	if (replaced)
		copy_is_not_found(stack, entry);
	return 0;
}

/* struct vm_fault of the copy that clears this entry; 0: it is no copy. */
INLINE u64 find_copy(u64 stack, struct changed_entry *entry)
{
	struct places *last = only_element(PLACES);
	u64 code = address_of(COPY_CODE), caller = stack + last->copy_return;

	if (!is_copy_code(read_kernel_u64(caller, 0), code)) {
		caller = search_copy(stack, code, entry);
		if (!caller)
			return 0;
		last->copy_return = caller - stack;
	}
	return find_fault(caller, &last->copy_fault, entry);
}

/* struct vm_fault of the write that changes this entry; 0: not found. */
INLINE u64 find_re_mark(u64 stack, struct changed_entry *entry)
{
	struct places *last = only_element(PLACES);

	return find_fault(stack, &last->re_mark_fault, entry);
}

#endif /* FIND_FAULT_H */
