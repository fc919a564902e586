/* SPDX-License-Identifier: GPL-2.0-only */
/* Note the mapping of a fault while it exists: the process may end before user space reads it. */
#ifndef MAPPING_H
#define MAPPING_H

#include "count.h"

#ifdef MAPPINGS

/* When it is full, LOSS_MAPPINGS_FULL: the address is counted, its name is unknown. */
BPF_HASH(mappings, struct mapping_key, struct mapping, MAP_SIZE);
BPF_ARRAY(no_mapping, struct mapping, 1);	/* zeroes, too many for the stack */

/* The order of show_map_vma() in fs/proc/task_mmu.c. */
INLINE void describe_mapping(struct mapping *mapping, u64 vma, u64 start, u64 end)
{
	u64 mm = read_kernel_u64(vma, VMA_MM), file = read_kernel_u64(vma, VMA_FILE);
	u64 name = 0, inode, dentry;

	mapping->end = end;
	mapping->flags = read_kernel_u64(vma, VMA_FLAGS);
	if (file) {
		inode = read_kernel_u64(file, FILE_INODE);
		mapping->inode = read_kernel_u64(inode, INODE_NUMBER);
		mapping->device = read_kernel_u32(read_kernel_u64(inode, INODE_SB), SB_DEVICE);
		dentry = read_kernel_u64(file, FILE_PATH + PATH_DENTRY);
		name = read_kernel_u64(dentry, DENTRY_QSTR + QSTR_NAME);
		mapping->type = mapping->flags & VM_HUGETLB ? MAPPING_HUGETLB : MAPPING_FILE;
	} else if (start <= read_kernel_u64(mm, MM_BRK) && end >= read_kernel_u64(mm, MM_START_BRK)) {
		mapping->type = MAPPING_HEAP;
	} else if (start <= read_kernel_u64(mm, MM_START_STACK) &&
		   end >= read_kernel_u64(mm, MM_START_STACK)) {
		mapping->type = MAPPING_STACK;
#ifdef VMA_ANON_NAME	/* CONFIG_ANON_VMA_NAME */
	} else {
		name = read_kernel_u64(vma, VMA_ANON_NAME);
		if (name)
			name += ANON_NAME_TEXT;
#endif
	}
	if (name)
		bpf_probe_read_kernel_str(mapping->name, sizeof(mapping->name), (void *)name);
}

INLINE u64 mapping_start(u64 vma)
{
	return read_kernel_u64(vma, VMA_START);
}

INLINE u64 mapping_end(u64 vma)
{
	return read_kernel_u64(vma, VMA_END);
}

/* Returns the start of the vma, which is the mapping's key; 0 without a vma. `lost`: no room. */
INLINE u64 note_mapping(u32 tgid, u64 vma, int *lost)
{
	struct mapping_key key = { .tgid = tgid };
	struct mapping *mapping, *zeroes;
	u64 end;
	u32 zero = 0;

	if (!vma)
		return 0;
	key.start = mapping_start(vma);
	end = mapping_end(vma);
	mapping = mappings.lookup(&key);
	if (mapping && mapping->end == end)
		return key.start;
	zeroes = no_mapping.lookup(&zero);
	if (!mapping && zeroes) {
		mappings.insert(&key, zeroes);
		mapping = mappings.lookup(&key);
	}
	if (mapping) {
		describe_mapping(mapping, vma, key.start, end);
	} else {
		count_loss(LOSS_MAPPINGS_FULL);
		*lost = 1;
	}
	return key.start;
}

#else
INLINE u64 mapping_start(u64 vma) { return 0; }
INLINE u64 mapping_end(u64 vma) { return 0; }
INLINE u64 note_mapping(u32 tgid, u64 vma, int *lost) { return 0; }
#endif /* MAPPINGS */
#endif /* MAPPING_H */
