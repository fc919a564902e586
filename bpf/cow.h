/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The structs and enums that BPF programs write and user space reads. Mirrored
 * by cowtrace/model/, tracer/abi.py and tracer/losses.py; tests/unit/test_abi.py
 * compares them.
 */
#ifndef COW_H
#define COW_H

#include "arch.h"

/* The outcome of one copy-on-write fault. */
enum fault_kind {
	COPIED,		/* a shared page: its bytes were copied to a new frame */
	FILE_COPIED,	/* first write to a private file page not yet mapped */
	ZERO_FILLED,	/* the zero page was replaced by a new page of zeroes */
	REUSED,		/* an exclusive page: the same frame, re-marked writable */
	SHARED,		/* a shared mapping: re-marked writable, never copied */
	UNCHANGED,	/* lost a race, will be retried, or left to userfaultfd */
	FAILED,		/* out of memory, SIGBUS, SIGSEGV */
	UNCLASSIFIED,	/* the page-table entry was cleared before it was read */
};

/* The source of the bytes that the page held before. */
enum fault_source {
	SOURCE_UNKNOWN,	/* the plan does not show it */
	SOURCE_ANON,
	SOURCE_FILE,
	SOURCE_ZERO,
	SOURCE_KSM,
	SOURCE_HUGETLB,
	SOURCE_THP,	/* a large anonymous folio, copied in small pages */
};

/* What made the write. */
enum fault_origin {
	ORIGIN_USER,	/* an instruction of the process itself */
	ORIGIN_KERNEL,	/* the kernel for the process: read(2) into the page */
	ORIGIN_REMOTE,	/* another process: ptrace, process_vm_writev */
	ORIGIN_UNSHARE,	/* not a write: a long-term pin for reading */
	ORIGIN_FORK,	/* not a fault: fork itself copied a pinned page */
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

/* Value of cells: a sum of one CPU, found without a hash. */
struct cell {
	struct fault_key key;
	u32 round;	/* that the sums belong to; in any other round they are 0 */
	u64 faults;
	u64 bytes;
};

/* Value of detail_cells: likewise, in detail. */
struct detail_cell {
	struct cell sum;
	u64 mapping;	/* as in detail_key */
	u64 end;	/* of the mapping */
	u64 forks;	/* fork_changes when `generation` was found */
	u32 generation;	/* as in detail_key */
	u32 pad;
};

/* Key of page_faults. */
struct page_fault_key {
	u32 tgid;
	u32 half;	/* as above */
};

/* Value of page_faults: all page faults of one CPU, copy-on-write or not. */
struct page_fault_sum {
	u64 user;
	u64 kernel;
	u64 write_protect;	/* of user + kernel: writes to a present page */
};

/* Value of processes, by tgid. */
struct process {
	u32 parent;	/* tgid; 0 when it existed before attach */
	u32 exited;	/* 1 when its last thread has ended */
	u64 start_ns;	/* of the thread group leader, boot time clock */
	u32 created_by;	/* generation of the fork that created it; 0: none, or exec since */
	u32 last_fork;	/* generation of its latest fork; 0: none */
	char comm[16];	/* bytes of the process's own choosing */
};

/* Key of details; a detail that is not requested is 0. No implicit padding. */
struct detail_key {
	u64 mapping;	/* start of the vma; 0: unknown */
	u64 user_stack;	/* id in stacks; 0: not requested, or lost */
	u64 kernel_stack;	/* likewise */
	u32 tgid;
	u32 generation;	/* 0: none */
	u8 kind;	/* to half: as in fault_key */
	u8 source;
	u8 origin;
	u8 half;
	u8 latency;	/* 1 + log2 of the fault's ns; 0: not timed */
	u8 eighth;	/* 1 + the eighth of the page that was written; 0: not requested */
	u8 pad[2];
};

/* Value of details. Sums of one round. */
struct detail_sum {
	u64 faults;
	u64 bytes;
	u64 ns;		/* in these faults; 0: not timed */
	u64 tlb_flush_ns;	/* of these, in flushes of the TLB */
};

#define STACK_DEPTH 64

/* Value of stacks; the key is a hash of the addresses, see stack.h. */
struct stack {
	u64 addresses[STACK_DEPTH];	/* innermost first; 0 after the last */
};

/* One sampled copy. Others follow it: struct python_frames, and as asked for written, stack_dump. */
struct sample {
	u64 mapping;	/* to origin: as in detail_key */
	u64 address;	/* of the byte that was written; of its page: written_address.h */
	u32 tgid;
	u32 generation;
	u8 kind;	/* to half: as in fault_key */
	u8 source;
	u8 origin;
	u8 half;
	u32 faults;	/* that this sample stands for */
};

#define NEAR_WORDS 10
#define WORDS_BELOW 4	/* of these, in front of the written one */
#define POOL_WORDS 6
#define HEAD_WORDS 6

enum known_phase {
	NO_PHASE,	/* it is not known where the interpreter keeps its state */
	PHASE,
	PHASE_WITHOUT_GENERATION,	/* `counts` tell nothing */
};

/* What a write changes, as it is before. A word that cannot be read is 0. */
struct written {
	u64 ip;		/* of user mode, as sp; 0: unknown */
	u64 sp;
	u64 near[NEAR_WORDS];	/* words around the written one */
	u64 pool[POOL_WORDS];	/* the beginning of the pool that the address would lie in */
	u64 block;	/* address of the pool's block; 0: there is no pool */
	u64 head[HEAD_WORDS];	/* the beginning of the block */
	u64 finalizing;	/* as the next ones: see struct runtime */
	u32 collecting;
	u32 counts[2];
	u32 has_phase;	/* enum known_phase */
	u32 pool_bytes;
	u32 unread;	/* 1: the page that is written could not be read */
};

/* Value of runtimes: user addresses of an interpreter's state, and offsets in its structs. */
struct runtime {
	u64 finalizing;	/* a pointer; not 0: it shuts down */
	u64 collecting;	/* u32; not 0: it collects garbage */
	u64 counts[2];	/* u32 each: of generations 1 and 2; 0: they do not tell which it collects */
	u64 gil_holder;	/* a pointer to the PyThreadState that holds the GIL, or was the last */
	u64 code_mask;	/* the bits of `code` that are the pointer */
	u32 pool_bytes;	/* of its allocator */
	u32 thread_id;	/* of PyThreadState: its thread pointer */
	u32 frame;	/* of PyThreadState: a pointer to its frame, or to what has that pointer */
	u32 frame_in;	/* of the latter; NO_OFFSET: it is the frame */
	u32 previous;	/* of a frame, as the next ones */
	u32 code;
	u32 instruction;
	u32 instruction_bytes;
	u32 flags;	/* two bytes; NO_OFFSET: it has none */
	u32 pad;
};

#define NO_OFFSET 0xffffffff
#define PYTHON_FRAMES 32

/* A frame of Python code, or one without code. */
struct python_frame {
	u64 code;	/* address of its code object */
	u64 instruction;
	u32 flags;
	u32 pad;
};

/* The frames of the current thread, innermost first. */
struct python_frames {
	u32 count;	/* that are valid; 0: it runs no Python, or it is not known how to find them */
	u32 pad;
	struct python_frame frames[PYTHON_FRAMES];
};

#define DUMP_BYTES 16384

/* Registers and stack memory of a sample, from which user space unwinds. */
struct stack_dump {
	u32 dump_bytes;	/* valid bytes of dump */
	u32 pad;
	u64 regs[REGS_WORDS];	/* of user mode */
	u8 dump[DUMP_BYTES];	/* of the user stack, from the stack pointer up */
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

/* Value of mappings: the vma, as read at its latest fault. */
struct mapping {
	u64 end;
	u64 flags;	/* vm_flags */
	u64 inode;
	u32 device;	/* of the file system, in the kernel's form: major << 20 | minor */
	u32 type;	/* enum mapping_type */
	char name[64];	/* last part of the file's path, or set by PR_SET_VMA_ANON_NAME */
};

/* Value of generations: a fork that created an mm. The key is an arbitrary number. */
struct generation {
	u32 parent;	/* tgid */
	u32 child;	/* tgid */
	u64 at_ns;	/* CLOCK_MONOTONIC */
	u64 ended_ns;	/* 0: the child runs and has not called exec */
	u64 shareable_pages;	/* anonymous pages of the child at fork; -1: unknown */
	u32 previous;	/* earlier fork of the parent whose child still ran; 0: none */
	u32 executed;	/* 1: exec ended it; 0: exit */
	u64 fork_ns;	/* in the fork, see fork_call.h; 0: unknown, as lock_ns */
	u64 lock_ns;	/* of these, the parent's mmap lock was held for writing */
	u64 page_table_bytes;	/* of the child at fork; -1: unknown, as copied_pages */
	u64 copied_pages;	/* by fork itself, since they are pinned */
	u64 first_second_ns[2];	/* the parent's copies and re-marks in the first second after it, by half */
};

enum event_state {
	EVENT_DECIDED,
	EVENT_UNDECIDED,	/* REUSED, unless another event of this thread and address follows */
	EVENT_TAKEN_BACK,	/* the undecided one before was no fault of these */
};

/* One fault, as sent through the ring buffer. */
struct event {
	u64 at_ns;	/* CLOCK_MONOTONIC */
	u64 address;	/* as in sample */
	u64 mapping;	/* start of the vma; 0: unknown */
	u64 bytes;
	u64 ns;		/* in the fault; 0: not timed */
	u32 tgid;	/* the owner of the memory */
	u32 actor_tid;	/* the thread that made the fault */
	u8 kind;
	u8 source;
	u8 origin;
	u8 state;	/* enum event_state */
	u32 pad;
	char comm[16];	/* of actor_tid */
};

/* Index of counters, a per-CPU array of u64: losses first, then other counts. */
enum counter {
	LOSS_RETURN_MISSED,	/* an entry whose return never came */
	LOSS_ENTRY_MISSED,	/* a return with no entry */
	LOSS_FAULT_NOT_FOUND,	/* an entry was changed, and no struct vm_fault found: find_fault.h, no_access.h */
	LOSS_SLOT_TAKEN,	/* the pairing slot belonged to another thread */
	LOSS_SUMS_FULL,		/* no room in fault_sums: a fault not counted */
	LOSS_PAGE_FAULTS_FULL,	/* no room in page_faults: a page fault not counted */
	LOSS_PROCESSES_FULL,	/* no room in processes: a name or parent unknown */
	LOSS_FILTER_FULL,	/* no room in wanted: a descendant whose faults are not counted */
	LOSS_DETAILS_FULL,	/* no room in details: a fault counted, but not in detail */
	LOSS_MAPPINGS_FULL,	/* no room in mappings: a mapping without its name */
	LOSS_STACKS_FULL,	/* no room in stacks, or unreadable: a copy without its stack */
	LOSS_GENERATIONS_FULL,	/* no room in generations: a fork not noted */
	LOSS_FORK_NOT_FOUND,	/* too many later forks have ended: attributed to no fork */
	LOSS_EVENTS_DROPPED,	/* no room in the ring buffer: a fault counted, but not shown */
	LOSS_SAMPLES_DROPPED,	/* no room in the ring buffer: a sample dropped */
	COUNT_PID_REUSED,	/* a pid was reused before its last counts were read */
	COUNT_OUTSIDE_FAULTS,	/* tracepoint plan: pages allocated there, see allocation.h */
	COUNT_ZEROED_OUTSIDE_FAULTS,	/* likewise: pages of zeroes */
	COUNT_CHECKED,		/* faults compared with calls of wp_page_copy(): cross_check */
	COUNT_CHECK_FAILED,	/* of these, call and frame number disagreed: miscounted */
	COUNTERS,
};

/* What address_of() takes: kernel.h. */
enum kernel_address {
	HUGE_ZERO_PFN,	/* of a variable, as the next one */
	PER_CPU_OFFSET,
	PAGE_OFFSET_BASE,	/* a variable's value, as the next ones: where all memory is mapped */
	VMEMMAP_BASE,	/* of struct page */
	PGDIR_SHIFT,
	PHYSICAL_MASK,	/* of the frame in a page-table entry */
	ZERO_PFN,	/* frame number of the zero page */
	COPY_CODE,	/* of wp_page_copy(), or of do_wp_page() with it inlined */
	KRETPROBE_RETURN,	/* code that a function with a kretprobe returns to */
	GRAPH_RETURN,	/* likewise with the function-graph tracer */
	KERNEL_ADDRESSES,
};

/* What only_element() takes: maps with one element, by the name in lower case. */
enum single_map {
	ROUNDS,
	PLACES,
	FORK_CHANGES,
	SINGLE_MAPS,
};

#endif /* COW_H */
