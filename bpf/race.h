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

/* When each frame was claimed. LRU: a claim matters only as long as a fault lasts. */
BPF_TABLE("lru_hash", struct claim, u64, claims, 16384);

/*
 * A claim older than this fault's entry is of an earlier copy, into a frame
 * that has been freed and allocated again since: faults are entered with the
 * page-table lock held and the old entry in place, so before any rival's copy.
 * entered_ns is 0 when there was no rival at that time.
 */
INLINE int lost_race(u32 tgid, u64 address, u64 frame, u64 entered_ns)
{
	struct claim claim = { .address = address, .frame = frame, .tgid = tgid };
	u64 now = bpf_ktime_get_ns();
	u64 *when = claims.lookup(&claim);

	if (!when)
		return claims.insert(&claim, &now) && claims.lookup(&claim);
	if (entered_ns && *when >= entered_ns)
		return 1;
	*when = now;
	return 0;
}

#endif /* RACE_H */
