/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Detect threads that lost a race for a page. Threads that write one page at the
 * same moment all enter wp_page_copy() and copy it. The kernel maps one of the
 * copies; the other threads free theirs and return without error. Each of them
 * sees another frame than before. One new frame is one copy: the first thread to
 * return claims it.
 */
#ifndef LOST_RACE_H
#define LOST_RACE_H

#include "count.h"

struct claim {
	u64 address;
	u64 frame;
	u64 mm;
};

/*
 * Claims have numbers, not times: the clocks of two CPUs can differ by more than a
 * race lasts. LRU: a claim matters only as long as a fault lasts.
 */
BPF_TABLE("lru_hash", struct claim, u64, claims, 16384);
BPF_ARRAY(claims_made, u64, 1);

/* A lower bound of the number of the next claim, by any thread; never 0. */
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
 * `entered` is next_claim() when the fault began, 0 if no other thread could fault
 * then. A claim with a lower number belongs to an earlier copy, into a frame that
 * was freed and allocated again since: do_wp_page() begins with the page-table lock
 * held and the old entry in place, so before the copy of any rival is mapped.
 */
INLINE int lost_race(u64 mm, u64 address, u64 frame, u64 entered)
{
	struct claim claim = { .address = address, .frame = frame, .mm = mm };
	u64 number = number_claim();
	u64 *made = claims.lookup(&claim);

	if (!made)
		return claims.insert(&claim, &number) && claims.lookup(&claim);
	if (entered && *made >= entered)
		return 1;
	*made = number;
	return 0;
}

#endif /* LOST_RACE_H */
