"""Count one thread's page faults and copies exactly while it writes.

Page faults come from getrusage(2), copies from the kernel's taskstats over netlink:
`wpcopy_count` came with "delayacct: track delays from write-protect copy" (5.19). It counts
copies by wp_page_copy(), zero-filled pages among them, and by hugetlb_wp(), of threads that
started while delay accounting was on (sysctl kernel.task_delayacct).
"""

from __future__ import annotations

import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cowtrace.workloads.oracles.proc_files import vmstat
from cowtrace.workloads.outcome import total
from cowtrace.workloads.region import Region, scratch_region

_REHEARSALS = 16
_QUIET_REHEARSALS = 2  # in a row: one may be chance
_WARM_UP = 10  # rehearsals at least: CPython 3.11 rewrites a function's code at its 8th call

# linux/netlink.h, linux/genetlink.h, linux/taskstats.h
_NETLINK_GENERIC = 16
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY = 16, 3
_CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 1, 2
_TASKSTATS_CMD_GET, _TASKSTATS_CMD_ATTR_PID = 1, 1
_TASKSTATS_TYPE_STATS, _TASKSTATS_TYPE_AGGR_PID = 3, 4
_WPCOPY_COUNT = 400  # offsetof(struct taskstats, wpcopy_count)
_WPCOPY_VERSION = 13
# Version 15 put new members before it; 16 moved them to the end.
_SHIFTED_VERSION = 15

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: len, type, flags, seq, pid
_GENL_HEADER = struct.Struct("=BBH")  # struct genlmsghdr: cmd, version, reserved
_BODY = _HEADER.size + _GENL_HEADER.size
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: len, type
_COUNT = struct.Struct("=Q")

_SETTING = Path("/proc/sys/kernel/task_delayacct")


@dataclass(slots=True)
class Writes:
    """Sums over all writes. None: the kernel does not count, or the interpreter faulted too."""

    wp_copies: int | None = 0  # as taskstats counts them
    page_faults: int | None = 0  # as getrusage(2) counts them
    re_marks: int | None = 0  # of all processes, as pgreuse in /proc/vmstat counts them
    spent_ns: int = 0
    pages: int = 0  # a page written twice counts twice

    def count(self, write: Callable[[Region], object], region: Region) -> None:
        """Write a region, and count this thread's faults during the write.

        After fork the interpreter's own memory faults too. So the write is rehearsed in other
        mapped memory, until a rehearsal faults no more.
        """
        with scratch_region(region.pages) as scratch, _wp_copies() as copies:
            quiet = 0
            for number in range(1, _REHEARSALS + 1):
                rehearsed = _during(write, scratch, copies)
                quiet = 0 if rehearsed.faults or rehearsed.other_faults else quiet + 1
                if number >= _WARM_UP and quiet >= _QUIET_REHEARSALS:
                    break
            with memoryview(region.view):  # this object's own memory is written to as well
                pass
            before = vmstat("pgreuse")
            written = _during(write, region, copies)
            after = vmstat("pgreuse")
        at_rest = quiet >= _QUIET_REHEARSALS
        exact = at_rest and not written.other_faults
        self.wp_copies = total((self.wp_copies, written.copies if exact else None))
        self.page_faults = total((self.page_faults, written.faults if at_rest else None))
        re_marked = None if before is None or after is None else after - before
        self.re_marks = total((self.re_marks, re_marked))
        self.spent_ns += written.spent_ns
        self.pages += region.pages

    def forget(self) -> None:
        """Mark the counts as unknown: a write was not counted."""
        self.wp_copies = self.page_faults = self.re_marks = None


class _During(NamedTuple):
    copies: int | None
    faults: int
    other_faults: int  # by the measurement itself: its copies are in `copies`
    spent_ns: int


def _during(
    write: Callable[[Region], object], region: Region, copies: Callable[[], int | None]
) -> _During:
    first = _page_faults()
    before = copies()
    second = _page_faults()
    start_ns = time.perf_counter_ns()
    write(region)
    spent_ns = time.perf_counter_ns() - start_ns
    third = _page_faults()
    after = copies()
    last = _page_faults()
    copied = None if before is None or after is None else after - before
    return _During(copied, third - second, last - first - (third - second), spent_ns)


def _page_faults() -> int:
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_minflt + usage.ru_majflt  # major: the page was read from a disk


@contextmanager
def _wp_copies() -> Iterator[Callable[[], int | None]]:
    """A function that returns the write-protect copies of this thread since it began.

    It returns None when the kernel does not count them, or does not permit to read them. It
    allocates almost nothing: after fork, allocation copies pages too.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as netlink:
        answer = bytearray(2048)  # larger than any answer
        try:
            request, at = _prepare(netlink, answer)
        except (OSError, KeyError):
            request, at = b"", 0

        def now() -> int | None:
            if not request:
                return None
            netlink.send(request)
            netlink.recv_into(answer)
            count: int = _COUNT.unpack_from(answer, at)[0]
            return count

        yield now


def _prepare(netlink: socket.socket, answer: bytearray) -> tuple[bytes, int]:
    """The request, and where its answer has the count; OSError or KeyError where there is none."""

    def ask(request: bytes) -> bytes:
        netlink.send(request)
        size = netlink.recv_into(answer)
        if _HEADER.unpack_from(answer)[1] == _NLMSG_ERROR:
            raise OSError("netlink refused")
        return bytes(answer[_BODY:size])

    netlink.bind((0, 0))
    if _SETTING.read_text(encoding="ascii").strip() != "1":
        raise OSError("delay accounting is off")
    name = _message(_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_NAME, b"TASKSTATS\0")
    family = int.from_bytes(_attributes(ask(name))[_CTRL_ATTR_FAMILY_ID], "little")
    tid = struct.pack("=I", threading.get_native_id())
    request = _message(family, _TASKSTATS_CMD_GET, _TASKSTATS_CMD_ATTR_PID, tid)
    body = ask(request)
    stats = _attributes(_attributes(body)[_TASKSTATS_TYPE_AGGR_PID])[_TASKSTATS_TYPE_STATS]
    version: int = struct.unpack_from("=H", stats)[0]
    if version < _WPCOPY_VERSION or version == _SHIFTED_VERSION:
        raise KeyError("wpcopy_count")
    return request, _BODY + body.index(stats) + _WPCOPY_COUNT


def _message(family: int, command: int, kind: int, value: bytes) -> bytes:
    """A generic netlink request with one attribute."""
    padded = value + b"\0" * (-len(value) % 4)
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + padded
    body = _GENL_HEADER.pack(command, 1, 0) + attribute
    return _HEADER.pack(_HEADER.size + len(body), family, _NLM_F_REQUEST, 0, 0) + body


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        found[kind] = data[at + _ATTRIBUTE.size : at + size]
        at += size + -size % 4
    return found
