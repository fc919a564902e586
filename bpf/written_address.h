/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The address of the byte that a write fault wrote. struct vm_fault has it since
 * "userfaultfd: provide unmasked address on page-fault" (5.18); before that, the
 * tracepoint of the exception notes it. Where neither shows it, that of its page.
 */
#ifndef WRITTEN_ADDRESS_H
#define WRITTEN_ADDRESS_H

#include "kernel.h"

#ifdef NOTED_ADDRESSES
struct noted_address {
	u64 address;
	u32 tid;
	u32 pad;
};
/* By the low bits of the thread id, as in pair.h. */
BPF_ARRAY(noted_addresses, struct noted_address, SLOTS);

INLINE void note_address(u64 address)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct noted_address *slot = noted_addresses.lookup(&index);

	if (!slot)
		return;
	slot->tid = tid;
	slot->address = address;
}

INLINE u64 noted_address(void)
{
	u32 tid = current_tid(), index = tid & (SLOTS - 1);
	struct noted_address *slot = noted_addresses.lookup(&index);

	return slot && slot->tid == tid ? slot->address : 0;
}
#else
INLINE void note_address(u64 address) {}
#endif

/* In the page at `page`. The kernel's own write for a process can begin in an earlier page. */
INLINE u64 in_page(u64 address, u64 page)
{
	return (address ^ page) >> PAGE_SHIFT ? page : address;
}

#ifdef EXACT_ADDRESSES
#ifdef VMF_REAL_ADDRESS
#define written_address(vmf, page) in_page(read_kernel_u64(vmf, VMF_REAL_ADDRESS), page)
#elif defined(NOTED_ADDRESSES)
#define written_address(vmf, page) in_page(noted_address(), page)
#else
#define written_address(vmf, page) (page)
#endif
#else
#define written_address(vmf, page) (page)
#endif

#endif /* WRITTEN_ADDRESS_H */
