/* SPDX-License-Identifier: GPL-2.0-only */
/* Totals of all page faults, copy-on-write or not: off unless asked for. */
#ifndef PAGE_FAULTS_H
#define PAGE_FAULTS_H

#include "count.h"

/* One a process. When it is full, LOSS_PAGE_FAULTS_FULL. */
BPF_PERCPU_HASH(page_faults, u32, struct page_fault_sum, MAX_PROCESSES);

INLINE void count_page_fault(u64 error_code, int user)
{
	struct page_fault_sum zero = {}, *sum;
	u32 tgid = current_tgid();

	sum = page_faults.lookup(&tgid);
	if (!sum) {
		introduce(tgid, 0);
		page_faults.insert(&tgid, &zero);
		sum = page_faults.lookup(&tgid);
	}
	if (!sum) {
		lose(LOSS_PAGE_FAULTS_FULL);
		return;
	}
	if (user)
		sum->user++;
	else
		sum->kernel++;
	if ((error_code & (PF_PROT | PF_WRITE)) == (PF_PROT | PF_WRITE))
		sum->write_protect++;
}

#endif /* PAGE_FAULTS_H */
