/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the BPF programs count, and the structs that user space reads.
 * Mirrored by cowtrace/model.py and cowtrace/tracer/abi.py;
 * tests/unit/test_abi.py compares them.
 */
#ifndef COW_H
#define COW_H

#include "arch.h"

/* What became of one copy-on-write fault. */
enum fault_kind {
	COPIED,		/* a page that was shared: its bytes now in a new frame */
	FILE_COPIED,	/* first write to a private file page not yet mapped */
	ZERO_FILLED,	/* the zero page gave way to a fresh page of zeroes */
	REUSED,		/* same frame, nobody shares it: marked writable again */
	SHARED,		/* a shared mapping: made writable, never copied */
	UNCHANGED,	/* lost a race, to be retried, or not the kernel's to resolve */
	FAILED,		/* out of memory, SIGBUS, SIGSEGV */
	UNCLASSIFIED,	/* the entry was gone before it could be read */
};

/* Whose bytes the page held before. */
enum fault_source {
	SOURCE_UNKNOWN,	/* the plan cannot tell */
	SOURCE_ANON,
	SOURCE_FILE,
	SOURCE_ZERO,
	SOURCE_KSM,
	SOURCE_HUGETLB,
	SOURCE_THP,	/* a large anonymous folio; copied in small pages */
};

/* What made the write. */
enum fault_origin {
	ORIGIN_USER,	/* an instruction of the process itself */
	ORIGIN_KERNEL,	/* the kernel for the process: read(2) into the page */
	ORIGIN_REMOTE,	/* another process: ptrace, process_vm_writev */
	ORIGIN_UNSHARE,	/* no write: a long-term pin for reading */
	ORIGIN_FORK,	/* fork itself, for a pinned page: no fault at all */
};

/* Key of fault_sums. No implicit padding. */
struct fault_key {
	u32 tgid;	/* the owner of the memory */
	u32 actor;	/* tgid that made a remote fault, else 0 */
	u8 kind;	/* enum fault_kind */
	u8 source;	/* enum fault_source */
	u8 origin;	/* enum fault_origin */
	u8 half;	/* 0 or 1: the round's parity, see count.h */
};

/* Value of fault_sums. Sums of one round. */
struct fault_sum {
	u64 faults;
	u64 bytes;	/* written to new frames; 0 for kinds that copy nothing */
};

/* One of cells, one a CPU: a sum that is found without a hash. */
struct cell {
	struct fault_key key;
	u32 round;	/* whose sums these are; of any other round: none */
	u64 faults;
	u64 bytes;
};

/* Key of page_faults. */
struct page_fault_key {
	u32 tgid;
	u32 half;	/* as above */
};

/* Value of page_faults, one a CPU: every page fault, copy-on-write or not. */
struct page_fault_sum {
	u64 user;
	u64 kernel;
	u64 write_protect;	/* of both: a write to a page that is present */
};

/* Value of processes, by tgid. */
struct process {
	u32 parent;	/* tgid; 0 when it was born before attach */
	u32 exited;	/* 1 when its last thread has ended */
	u64 start_ns;	/* of the thread group leader, boot time clock */
	u32 born_in;	/* its generation; 0: none, or it has called exec since */
	u32 last_fork;	/* the generation of its latest fork, 0: none */
	char comm[16];	/* bytes of the process's own choosing */
};

/* Key of details: by what faults are told apart, as far as asked for. No implicit padding. */
struct detail_key {
	u64 mapping;	/* start of the vma; 0: not known */
	u64 user_stack;	/* id in stacks; 0: not asked for, or not kept */
	u64 kernel_stack;	/* likewise */
	u32 tgid;
	u32 generation;	/* 0: none */
	u8 kind;	/* as in fault_key, to half */
	u8 source;
	u8 origin;
	u8 half;
	u8 latency;	/* 1 + log2 of the ns in the fault; 0: not timed */
	u8 pad[3];
};

/* Value of details. Sums of one round. */
struct detail_sum {
	u64 faults;
	u64 bytes;
	u64 ns;		/* in the fault; 0 where it is not timed */
};

#define STACK_DEPTH 64

/* Value of stacks, by a hash of the addresses. */
struct stack {
	u64 addresses[STACK_DEPTH];	/* innermost first; 0 after the last */
};

#define DUMP_BYTES 16384

/* One copy out of many, with what it takes to unwind its user stack. */
struct sample {
	u64 mapping;	/* as in detail_key, to origin */
	u32 tgid;
	u32 generation;
	u8 kind;
	u8 source;
	u8 origin;
	u8 pad;
	u32 faults;	/* that it stands for */
	u32 dump_bytes;	/* of dump that were read */
	u32 pad2;
	u64 regs[REGS_WORDS];	/* of user mode */
	u8 dump[DUMP_BYTES];	/* of the user stack, from its pointer on */
};

enum mapping_type {
	MAPPING_ANON,
	MAPPING_HEAP,	/* start_brk to brk */
	MAPPING_STACK,	/* of the main thread */
	MAPPING_FILE,
	MAPPING_HUGETLB,
};

/* Key of mappings. */
struct mapping_key {
	u64 start;
	u64 tgid;
};

/* Value of mappings: a vma as a fault found it last. */
struct mapping {
	u64 end;
	u64 flags;	/* vm_flags */
	u64 inode;
	u32 device;	/* of the file system, as the kernel has it: major << 20 | minor */
	u32 type;	/* enum mapping_type */
	char name[64];	/* last part of the file's path, or PR_SET_VMA_ANON_NAME's */
};

/* Value of generations, by a number of no meaning: a fork that made a new mm. */
struct generation {
	u32 parent;	/* tgid */
	u32 child;	/* tgid */
	u64 at_ns;	/* CLOCK_MONOTONIC */
	u64 ended_ns;	/* 0: the child lives and has not called exec */
	u64 shareable_pages;	/* anonymous pages of the child at birth; -1: not known */
	u32 previous;	/* fork of the same parent whose child lived, 0: none */
	u32 executed;	/* 1 when exec ended it, 0: exit */
};

/* One fault, as it goes through the ring buffer. */
struct event {
	u64 at_ns;	/* CLOCK_MONOTONIC */
	u64 address;
	u64 mapping;	/* start of the vma; 0: not known */
	u64 bytes;
	u64 ns;		/* in the fault; 0: not timed */
	u32 tgid;	/* the owner of the memory */
	u32 actor_tid;	/* the thread that made the fault */
	u8 kind;
	u8 source;
	u8 origin;
	u8 undecided;	/* 1: REUSED, unless an event of the same thread and address follows */
	u32 pad;
	char comm[16];	/* of that thread */
};

/* Index of losses, a per-CPU array of u64. */
enum loss {
	LOSS_RETURN_MISSED,	/* an entry whose return never came */
	LOSS_ENTRY_MISSED,	/* a return with no entry */
	LOSS_SLOT_TAKEN,	/* the pairing slot belonged to another thread */
	LOSS_SUMS_FULL,		/* no room in fault_sums: a fault not counted */
	LOSS_PAGE_FAULTS_FULL,	/* no room in page_faults: a page fault not counted */
	LOSS_PROCESSES_FULL,	/* no room in processes: a name or parent unknown */
	LOSS_DETAILS_FULL,	/* no room in details: a fault counted, but in no detail */
	LOSS_MAPPINGS_FULL,	/* no room in mappings: a mapping without its name */
	LOSS_STACKS_FULL,	/* no room in stacks, or unreadable: a copy without its stack */
	LOSS_GENERATIONS_FULL,	/* no room in generations: a fork not noted */
	LOSS_EVENTS_DROPPED,	/* no room in the ring buffer: a fault counted, but not shown */
	LOSS_SAMPLES_DROPPED,	/* no room in its ring buffer: a sampled stack not seen */
	LOSS_PID_REUSED,	/* a pid came back before its last counts were read */
	LOSS_CHECKED,		/* not a loss: copies by frame number, cross_check */
	LOSS_CHECK_FAILED,	/* of these, wp_page_copy() and the frames disagreed */
	LOSS_MAX,
};

#endif /* COW_H */
