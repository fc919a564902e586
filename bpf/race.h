/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Threads that write one page at the same moment all enter wp_page_copy(), all
 * copy, and one of them finds its copy mapped: the others lose the race, free
 * theirs and return as if nothing had been. To each of them the frame has
 * changed. One new frame is one copy: the first to return claims it.
 */
#ifndef RACE_H
#define RACE_H

#include "count.h"

struct claim {
	u64 address;
	u64 frame;
	u64 tgid;
};

/*
 * Claims are numbered, for clocks of two CPUs may disagree by more than a race
 * takes. LRU: a claim matters only as long as a fault lasts.
 */
BPF_TABLE("lru_hash", struct claim, u64, claims, 16384);
BPF_ARRAY(claims_made, u64, 1);

/* The number that the next claim of anybody will have at least; never 0. */
INLINE u64 next_claim(void)
{
	u32 zero = 0;
	u64 *made = claims_made.lookup(&zero);

	return made ? *made + 1 : 1;
}

INLINE u64 number_claim(void)
{
	u32 zero = 0;
	u64 *made = claims_made.lookup(&zero);

	if (!made)
		return 1;
	atomic_add(made, 1);
	return *made;
}

/*
 * `entered` is next_claim() when the fault began, 0 when there was no rival at
 * that time. A claim made before is of an earlier copy, into a frame that has
 * been freed and allocated again since: faults are entered with the page-table
 * lock held and the old entry in place, so before any rival's copy is mapped.
 */
INLINE int lost_race(u32 tgid, u64 address, u64 frame, u64 entered)
{
	struct claim claim = { .address = address, .frame = frame, .tgid = tgid };
	u64 number = number_claim();
	u64 *made = claims.lookup(&claim);

	if (!made)
		return claims.insert(&claim, &number) && claims.lookup(&claim);
	if (entered && *made >= entered)
		return 1;
	*made = number;
	return 0;
}

#endif /* RACE_H */
