/* SPDX-License-Identifier: GPL-2.0-only */
/* What mapping a fault was in, noted while it exists: a process may be gone when it is shown. */
#ifndef MAPPING_H
#define MAPPING_H

#include "count.h"

#ifdef MAPPINGS

/* When it is full, LOSS_MAPPINGS_FULL: the address is counted, its name is not known. */
BPF_HASH(mappings, struct mapping_key, struct mapping, MAX_MAPPINGS);
BPF_ARRAY(no_mapping, struct mapping, 1);	/* zeroes, too many for the stack */

/* The order of show_map_vma() in fs/proc/task_mmu.c. */
INLINE void describe_mapping(struct mapping *mapping, u64 vma, u64 start, u64 end)
{
	u64 mm = read_u64(vma, VMA_MM), file = read_u64(vma, VMA_FILE), name = 0, inode;

	mapping->end = end;
	mapping->flags = read_u64(vma, VMA_FLAGS);
	if (file) {
		inode = read_u64(file, FILE_INODE);
		mapping->inode = read_u64(inode, INODE_NUMBER);
		mapping->device = read_u32(read_u64(inode, INODE_SB), SB_DEVICE);
		name = read_u64(read_u64(file, FILE_PATH + PATH_DENTRY), DENTRY_QSTR + QSTR_NAME);
		mapping->type = mapping->flags & VM_HUGETLB ? MAPPING_HUGETLB : MAPPING_FILE;
	} else if (start <= read_u64(mm, MM_BRK) && end >= read_u64(mm, MM_START_BRK)) {
		mapping->type = MAPPING_HEAP;
	} else if (start <= read_u64(mm, MM_START_STACK) && end >= read_u64(mm, MM_START_STACK)) {
		mapping->type = MAPPING_STACK;
#ifdef VMA_ANON_NAME	/* CONFIG_ANON_VMA_NAME */
	} else {
		name = read_u64(vma, VMA_ANON_NAME);
		if (name)
			name += ANON_NAME_TEXT;
#endif
	}
	if (name)
		bpf_probe_read_kernel_str(mapping->name, sizeof(mapping->name), (void *)name);
}

/* Its start, by which it is known; 0 without a vma. */
INLINE u64 note_mapping(u32 tgid, u64 vma)
{
	struct mapping_key key = { .tgid = tgid };
	struct mapping *mapping, *zeroes;
	u64 end;
	u32 zero = 0;

	if (!vma)
		return 0;
	key.start = read_u64(vma, VMA_START);
	end = read_u64(vma, VMA_END);
	mapping = mappings.lookup(&key);
	if (mapping && mapping->end == end)
		return key.start;
	zeroes = no_mapping.lookup(&zero);
	if (!mapping && zeroes) {
		mappings.insert(&key, zeroes);
		mapping = mappings.lookup(&key);
	}
	if (mapping)
		describe_mapping(mapping, vma, key.start, end);
	else
		lose(LOSS_MAPPINGS_FULL);
	return key.start;
}

#endif /* MAPPINGS */
#endif /* MAPPING_H */
