/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Find the vma of an address, for programs that are passed none: walk down the mm's
 * maple tree ("mm: start tracking VMAs with maple tree", 6.1), as mtree_range_walk() in
 * lib/maple_tree.c does. Inside a fault the mapping is locked and stays; elsewhere the
 * result may be no vma.
 */
#ifndef VMA_H
#define VMA_H

#include "kernel.h"

#ifdef MM_MT

#define MAPLE_NODE_MASK	255ULL	/* nodes are 256 bytes, aligned */
#define MAPLE_PIVOTS	15	/* of a leaf; MAPLE_ARANGE64_SLOTS is fewer */
#define MAPLE_DEPTH	6
#define maple_type(node) ((node) >> 3 & 15)	/* enum maple_type, in the pointer */
#define MAPLE_LEAF_64	1
#define MAPLE_ARANGE_64	3

INLINE u64 find_vma(u64 mm, u64 address)
{
	u64 node = read_kernel_u64(mm, MM_MT + MT_ROOT);
	int level, slot;

	NO_UNROLL
	for (level = 0; level < MAPLE_DEPTH; level++) {
		u64 base = node & ~MAPLE_NODE_MASK, type = maple_type(node);
		u64 slots = type == MAPLE_ARANGE_64 ? ARANGE_SLOT : RANGE_SLOT;
		int count = type == MAPLE_ARANGE_64 ? ARANGE_PIVOTS : MAPLE_PIVOTS;

		NO_UNROLL
		for (slot = 0; slot < MAPLE_PIVOTS; slot++) {
			/* Pivots are at the same place in both kinds of node. */
			u64 pivot = read_kernel_u64(base, RANGE_PIVOT + 8 * slot);

			/* The last range in use has no pivot: it ends where the node does. */
			if (slot >= count || !pivot || address <= pivot)
				break;
		}
		node = read_kernel_u64(base, slots + 8 * slot);
		if (type == MAPLE_LEAF_64)
			return node;
	}
	return 0;
}

#endif /* MM_MT */
#endif /* VMA_H */
