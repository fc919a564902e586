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
#define MAPLE_STEPS	8	/* half of a node's most slots: 16 in a leaf */
#define MAPLE_DEPTH	6
#define maple_type(node) ((node) >> 3 & 15)	/* enum maple_type, in the pointer */
#define MAPLE_LEAF_64	1
#define MAPLE_ARANGE_64	3

/*
 * How many pivots of a node lie below an address: its slot. A pivot is the last address
 * of its slot; the last slot in use has none, but a 0. Pivots are at the same place in both
 * kinds of node. In the smaller one, slots follow: pointers, which lie above any address.
 * No branches: the verifier would follow each.
 */
INLINE u64 maple_slot(u64 node, u64 address)
{
	u64 slot = 0, step, pivot;

	NO_UNROLL
	for (step = MAPLE_STEPS; step; step >>= 1) {
		pivot = read_kernel_u64(node, RANGE_PIVOT + 8 * (slot + step - 1));
		slot += step * ((((pivot - 1) >> PAGE_SHIFT) - (address >> PAGE_SHIFT)) >> 63);
	}
	return slot;
}

INLINE u64 find_vma(u64 mm, u64 address)
{
	u64 node = read_kernel_u64(mm, MM_MT + MT_ROOT);
	int level;

	NO_UNROLL
	for (level = 0; level < MAPLE_DEPTH; level++) {
		u64 base = node & ~MAPLE_NODE_MASK, type = maple_type(node);
		u64 slots = type == MAPLE_ARANGE_64 ? ARANGE_SLOT : RANGE_SLOT;

		node = read_kernel_u64(base + 8 * maple_slot(base, address), slots);
		if (type == MAPLE_LEAF_64)
			return node;
	}
	return 0;
}

#endif /* MM_MT */
#endif /* VMA_H */
