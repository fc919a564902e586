"""Read the kernel's count of a thread's write-protect copies: taskstats, over netlink.

`wpcopy_count` came with "delayacct: track delays from write-protect copy" (5.19). It counts
copies by wp_page_copy(), zero-filled pages among them, and by hugetlb_wp(), of threads that
started while delay accounting was on (sysctl kernel.task_delayacct).
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; the module socket has no name for it

# linux/netlink.h, linux/genetlink.h, linux/taskstats.h
_NETLINK_GENERIC = 16
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY = 16, 3
_CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 1, 2
_TASKSTATS_CMD_GET, _TASKSTATS_CMD_ATTR_PID = 1, 1
_TASKSTATS_CMD_ATTR_REGISTER_CPUMASK = 3
_TASKSTATS_TYPE_STATS, _TASKSTATS_TYPE_AGGR_PID = 3, 4
_TGID, _WPCOPY_COUNT = 368, 400  # offsetof(struct taskstats, ac_tgid) and wpcopy_count
_WPCOPY_VERSION = 13
# Version 15 put new members before it; 16 moved them to the end.
_SHIFTED_VERSION = 15

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: len, type, flags, seq, pid
_GENL_HEADER = struct.Struct("=BBH")  # struct genlmsghdr: cmd, version, reserved
_BODY = _HEADER.size + _GENL_HEADER.size
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: len, type
_COUNT = struct.Struct("=Q")
_QUEUE_BYTES = 64 << 20  # of threads that ended, until they are read

_SETTING = Path("/proc/sys/kernel/task_delayacct")


@contextmanager
def wp_copies() -> Iterator[Callable[[], int | None]]:
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


class EndedThread(NamedTuple):
    """A thread that has ended."""

    tgid: int
    wp_copies: int


@contextmanager
def ended_threads() -> Iterator[Callable[[], list[EndedThread]]]:
    """A function that returns the threads of the whole system that have ended, once each.

    Raises OSError or KeyError where the kernel does not count, or refuses.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as netlink:
        netlink.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE_BYTES)
        family = _open(netlink)
        cpus = f"0-{(os.cpu_count() or 1) - 1}\0".encode()
        netlink.send(
            _message(family, _TASKSTATS_CMD_GET, _TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, cpus)
        )

        def ended() -> list[EndedThread]:
            found = []
            with suppress(BlockingIOError):
                while True:
                    answer = netlink.recv(1 << 16, socket.MSG_DONTWAIT)
                    stats = _stats(answer[_BODY:])
                    (tgid,) = struct.unpack_from("=I", stats, _TGID)
                    found.append(EndedThread(tgid, *_COUNT.unpack_from(stats, _WPCOPY_COUNT)))
            return found

        yield ended


def _prepare(netlink: socket.socket, answer: bytearray) -> tuple[bytes, int]:
    """The request, and where its answer has the count; OSError or KeyError where there is none."""
    tid = struct.pack("=I", threading.get_native_id())
    request = _message(_open(netlink), _TASKSTATS_CMD_GET, _TASKSTATS_CMD_ATTR_PID, tid)
    netlink.send(request)
    received = bytes(answer[: netlink.recv_into(answer)])
    return request, received.index(_stats(_body(received))) + _WPCOPY_COUNT


def _open(netlink: socket.socket) -> int:
    """The number of the family TASKSTATS."""
    netlink.bind((0, 0))
    if _SETTING.read_text(encoding="ascii").strip() != "1":
        raise OSError("delay accounting is off")
    netlink.send(
        _message(_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_NAME, b"TASKSTATS\0")
    )
    family = _attributes(_body(netlink.recv(2048)))[_CTRL_ATTR_FAMILY_ID]
    return int.from_bytes(family, "little")


def _body(answer: bytes) -> bytes:
    if _HEADER.unpack_from(answer)[1] == _NLMSG_ERROR:
        raise OSError("netlink refused")
    return answer[_BODY:]


def _stats(body: bytes) -> bytes:
    """struct taskstats of one thread. Raises KeyError if it does not count copies."""
    stats = _attributes(_attributes(body)[_TASKSTATS_TYPE_AGGR_PID])[_TASKSTATS_TYPE_STATS]
    version: int = struct.unpack_from("=H", stats)[0]
    if version < _WPCOPY_VERSION or version == _SHIFTED_VERSION:
        raise KeyError("wpcopy_count")
    return stats


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
