"""Loaded programs attached to the entry and return of kernel functions, by BCC's own library.

libbcc_bpf is the part of BCC without its compiler: it needs neither LLVM nor BCC's Python module.
"""

from __future__ import annotations

import ctypes as c
import os
from functools import cache

from cowtrace.kernel.hooks import Hook
from cowtrace.tracer.guardian import MAXACTIVE, Guardian, kprobe_events


class Kprobes:
    """What is attached. `close` detaches; so does the end of the process."""

    def __init__(self) -> None:
        self._attached: list[tuple[int, bytes]] = []  # perf event, its name
        self._guardian: Guardian | None = None

    def attach(self, hook: Hook, program: int) -> None:
        """Raises OSError when there is no such function, or it cannot be probed."""
        returns = hook.kind == "kretprobe"
        name = f"{'r' if returns else 'p'}_{hook.target}".replace(".", "_").encode()
        attempts = [0]
        if returns and (events := kprobe_events()):
            self._guardian = self._guardian or Guardian(events)
            # Refused when another tracer of this process has the event of that name.
            attempts.insert(0, MAXACTIVE)
        for maxactive in attempts:
            fd = _library().bpf_attach_kprobe(
                program, int(returns), name, hook.target.encode(), 0, maxactive
            )
            if fd >= 0:
                self._attached.append((fd, name))
                return
        raise OSError(c.get_errno(), f"cannot attach a {hook.kind} to {hook.target}()")

    def close(self) -> None:
        """In the reverse order. Idempotent."""
        while self._attached:
            fd, name = self._attached.pop()
            os.close(fd)
            if kprobe_events():  # else there is no event to remove, and BCC complains on stderr
                _library().bpf_detach_kprobe(name)
        if self._guardian:
            self._guardian.close()


@cache
def _library() -> c.CDLL:
    library = c.CDLL("libbcc_bpf.so.0", use_errno=True)
    library.bpf_attach_kprobe.argtypes = (
        c.c_int,
        c.c_int,
        c.c_char_p,
        c.c_char_p,
        c.c_uint64,
        c.c_int,
    )
    library.bpf_detach_kprobe.argtypes = (c.c_char_p,)
    return library
