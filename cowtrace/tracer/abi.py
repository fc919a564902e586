"""The structs of bpf/cow.h as user space reads them; tests/unit/test_abi.py compares the two."""

from __future__ import annotations

import struct

from cowtrace.kernel import arch

# struct fault_key: tgid, actor, kind, source, origin, half
FAULT_KEY = struct.Struct("<IIBBBB")
# struct fault_sum: faults, bytes
FAULT_SUM = struct.Struct("<QQ")
# struct cell: a fault_key, round, faults, bytes
CELL = struct.Struct("<IIBBBBIQQ")
# struct page_fault_key: tgid, half
PAGE_FAULT_KEY = struct.Struct("<II")
# struct page_fault_sum: user, kernel, write_protect
PAGE_FAULT_SUM = struct.Struct("<QQQ")
# struct process: parent, exited, start_ns, born_in, last_fork, comm
PROCESS = struct.Struct("<IIQII16s")
# struct detail_key: mapping, user_stack, kernel_stack, tgid, generation, kind, source, origin,
# half, latency, pad
DETAIL_KEY = struct.Struct("<QQQIIBBBBB3B")
# struct detail_sum: faults, bytes, ns
DETAIL_SUM = struct.Struct("<QQQ")
# struct mapping_key: start, tgid
MAPPING_KEY = struct.Struct("<QQ")
# struct mapping: end, flags, inode, device, type, name
MAPPING = struct.Struct("<QQQII64s")
# struct generation: parent, child, at_ns, ended_ns, shareable_pages, previous, executed
GENERATION = struct.Struct("<IIQQQII")
# struct sample to dump_bytes, pad2: mapping, tgid, generation, kind, source, origin, pad, faults,
# dump_bytes, pad2; then regs, then dump
SAMPLE = struct.Struct("<QIIBBBBIII")
REGS = struct.Struct(f"<{arch.this().regs_words}Q")
# struct event: at_ns, address, mapping, bytes, ns, tgid, actor_tid, kind, source, origin,
# undecided, pad, comm
EVENT = struct.Struct("<QQQQQIIBBBBI16s")
TGID = struct.Struct("<I")
STACK_ID = struct.Struct("<Q")
STACK = struct.Struct("<64Q")  # struct stack
COUNTER = struct.Struct("<Q")
ROUND = struct.Struct("<I")

# enum loss, in order.
LOSSES = (
    "return missed",
    "entry missed",
    "slot taken",
    "sums full",
    "page faults full",
    "processes full",
    "details full",
    "mappings full",
    "stacks full",
    "generations full",
    "events dropped",
    "samples dropped",
    "pid reused",
    "checked",
    "check failed",
)
# Those that mean a copy-on-write fault was not counted, or not counted right.
LOST = ("return missed", "entry missed", "slot taken", "sums full", "check failed")
