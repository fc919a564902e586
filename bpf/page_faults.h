/* SPDX-License-Identifier: GPL-2.0-only */
/* Totals of all page faults, copy-on-write or not: off unless asked for. */
#ifndef PAGE_FAULTS_H
#define PAGE_FAULTS_H

#include "count.h"

/*
 * Two programs can take turns on one CPU where a thread can be preempted inside
 * one (fentry, and tracepoints of 7.x, on a preemptible kernel).
 */
#ifdef PREEMPTIBLE
#define increase(counter, by) atomic_add(&(counter), by)
#else
#define increase(counter, by) ((counter) += (by))
#endif

/* One a process and round. When it is full, LOSS_PAGE_FAULTS_FULL. */
BPF_PERCPU_HASH(page_faults, struct page_fault_key, struct page_fault_sum, 2 * MAX_PROCESSES);

INLINE void count_page_fault(u64 error_code, int user)
{
	struct page_fault_sum zero = {}, *sum;
	struct page_fault_key key = { .tgid = current_tgid(), .half = current_round() & 1 };

	sum = page_faults.lookup(&key);
	if (!sum) {
		introduce(key.tgid, 0);
		page_faults.insert(&key, &zero);
		sum = page_faults.lookup(&key);
	}
	if (!sum) {
		lose(LOSS_PAGE_FAULTS_FULL);
		return;
	}
	if (user)
		increase(sum->user, 1);
	else
		increase(sum->kernel, 1);
	if ((error_code & (PF_PROT | PF_WRITE)) == (PF_PROT | PF_WRITE))
		increase(sum->write_protect, 1);
}

#endif /* PAGE_FAULTS_H */
