"""The structs of bpf/cow.h as user space reads them; tests/unit/test_abi.py compares the two."""

from __future__ import annotations

import struct

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
# struct process: parent, exited, start_ns, comm
PROCESS = struct.Struct("<IIQ16s")
TGID = struct.Struct("<I")
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
    "pid reused",
    "checked",
    "check failed",
)
# Those that mean a copy-on-write fault was not counted, or not counted right.
LOST = ("return missed", "entry missed", "slot taken", "sums full", "check failed")
