"""Read the kernel's own count of write-protect copies of a thread: taskstats over netlink.

`wpcopy_count` came with "delayacct: track delays from write-protect copy" (5.19). It counts
copies by wp_page_copy(), zero-filled pages among them, and by hugetlb_wp(), of threads that
started while delay accounting was on (sysctl kernel.task_delayacct).
"""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path

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

SETTING = Path("/proc/sys/kernel/task_delayacct")


class WpCopies:
    """Write-protect copies of the thread that opens it; a context manager.

    `now` allocates almost nothing: after fork, allocation copies pages too.
    """

    def __init__(self) -> None:
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC)
        self._answer = bytearray(2048)  # larger than any answer
        self._request = b""  # empty: this kernel does not count, or does not permit it
        self._at = 0  # of the count in the answer
        try:
            self._prepare()
        except (OSError, KeyError):
            self._request = b""

    def now(self) -> int | None:
        """Copies since the thread began; None when the kernel does not count them."""
        if not self._request:
            return None
        self._netlink.send(self._request)
        self._netlink.recv_into(self._answer)
        count: int = _COUNT.unpack_from(self._answer, self._at)[0]
        return count

    def __enter__(self) -> WpCopies:
        return self

    def __exit__(self, *raised: object) -> None:
        self._netlink.close()

    def _prepare(self) -> None:
        self._netlink.bind((0, 0))
        if SETTING.read_text(encoding="ascii").strip() != "1":
            return
        name = _message(_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_NAME, b"TASKSTATS\0")
        family = int.from_bytes(_attributes(self._ask(name))[_CTRL_ATTR_FAMILY_ID], "little")
        tid = struct.pack("=I", threading.get_native_id())
        request = _message(family, _TASKSTATS_CMD_GET, _TASKSTATS_CMD_ATTR_PID, tid)
        answer = self._ask(request)
        of_thread = _attributes(answer)[_TASKSTATS_TYPE_AGGR_PID]
        stats = _attributes(of_thread)[_TASKSTATS_TYPE_STATS]
        if len(stats) >= _WPCOPY_COUNT + _COUNT.size and _has_count(stats):
            self._at = _BODY + answer.index(stats) + _WPCOPY_COUNT
            self._request = request

    def _ask(self, request: bytes) -> bytes:
        """The attributes of the answer. Raises OSError when it is an error."""
        self._netlink.send(request)
        size = self._netlink.recv_into(self._answer)
        if _HEADER.unpack_from(self._answer)[1] == _NLMSG_ERROR:
            raise OSError("netlink refused")
        return bytes(self._answer[_BODY:size])


def _has_count(stats: bytes) -> bool:
    version: int = struct.unpack_from("=H", stats)[0]
    return version >= _WPCOPY_VERSION and version != _SHIFTED_VERSION


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
