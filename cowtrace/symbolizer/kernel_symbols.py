"""Name kernel addresses by /proc/kallsyms."""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_right

_FUNCTION = re.compile(rb"^([0-9a-f]+) [tTwW] (\S+)", re.MULTILINE)
_CHUNK = 1 << 20


class KernelSymbols:
    """The kernel's functions, sorted by address. Reads an open /proc/kallsyms; takes `fd`."""

    def __init__(self, fd: int) -> None:
        found = []
        rest = b""
        with os.fdopen(fd, "rb", buffering=0) as file:
            file.seek(0)  # an earlier symbolizer may have read it
            while part := file.read(_CHUNK):
                whole, _, rest = (rest + part).rpartition(b"\n")
                found += [(int(at, 16), name) for at, name in _FUNCTION.findall(whole)]
        found.sort(key=lambda each: each[0])
        self._starts = array("Q", (at for at, _ in found))
        self._names = [name for _, name in found]

    def name(self, address: int) -> str:
        """The function before an address; empty: none, or kernel.kptr_restrict hides them all."""
        at = bisect_right(self._starts, address) - 1
        return self._names[at].decode() if at >= 0 and self._starts[at] else ""
