"""Limit the connections of a server: in all, and of one address; end the slowest for a new one."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter

MOST = 128  # at the same time
MOST_OF_ONE = 32  # of one address


class Connections:
    """The tasks that serve clients, in the order in which they were accepted."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], str] = {}  # the client's address

    def add(self, task: asyncio.Task[None], address: str) -> None:
        """Add a client. At a limit, cancel the slowest: the one that has been there longest.

        That is one of the address with the most connections, so that it costs no other client.
        """
        counts = Counter(self._tasks.values())
        crowd = address if counts[address] >= MOST_OF_ONE else None
        if crowd is None and len(self._tasks) >= MOST:
            ((crowd, _),) = counts.most_common(1)
        if crowd is not None:
            slowest = next(task for task, owner in self._tasks.items() if owner == crowd)
            slowest.cancel()
            del self._tasks[slowest]
        self._tasks[task] = address
        task.add_done_callback(lambda done: self._tasks.pop(done, None))


def owner(host: str) -> str:
    """Who is behind an address: its network, where one client has all of it."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is None and not address.is_loopback:
            return str(ipaddress.ip_network((address, 64), strict=False))
        address = mapped or address
    return "loopback" if address.is_loopback else str(address)
