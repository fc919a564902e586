"""Attach loaded programs to the entry and return of kernel functions, by BCC's own library.

libbcc_bpf is the part of BCC without its compiler: it needs neither LLVM nor BCC's Python module.
"""

from __future__ import annotations

import ctypes as c
import os
import subprocess
from functools import cache
from itertools import count
from pathlib import Path
from threading import Thread

from cowtrace import child
from cowtrace.kernel.hooks import Hook
from cowtrace.kernel.programs import moved_high
from cowtrace.sandbox import keep_capabilities

# Threads inside one function at once that a kretprobe follows. By default about as many as there
# are CPUs: threads that sleep in a fault use them up, and returns go missing. Only tracefs takes
# another number.
_MAXACTIVE = 1024

_NUMBERS = count()  # of this process's tracers: events of one name would be one event

# Wait for the end of stdin, then remove the events whose names end with _$1.
_SWEEP = r"""
cat >/dev/null
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    left=$(sed -n "s|^[pr][0-9]*:\(kprobes/[^ ]*_$1\) .*|-:\1|p" "$2")
    [ -n "$left" ] || exit 0
    for event in $left; do echo "$event" >>"$2"; done 2>/dev/null
    sleep 0.1
done
"""


class Kprobes:
    """What is attached. `close` detaches; so does the end of the process."""

    def __init__(self) -> None:
        self._attached: list[int] = []  # perf events
        self._number = next(_NUMBERS)
        self._sweeper: subprocess.Popen[bytes] | None = None

    def attach(self, hook: Hook, program: int) -> None:
        """Raises OSError when the function does not exist, or cannot be probed."""
        returns = hook.kind == "kretprobe"
        letter = "r" if returns else "p"
        name = f"{letter}_{hook.target}_{self._number}".replace(".", "_").encode()
        attempts = [0]
        if returns and (events := _kprobe_events()):
            # As BCC ends these names.
            self._sweeper = self._sweeper or _sweeper(events, f"{self._number}_bcc_{os.getpid()}")
            attempts.insert(0, _MAXACTIVE)
        for maxactive in attempts:
            fd = _library().bpf_attach_kprobe(
                program, int(returns), name, hook.target.encode(), 0, maxactive
            )
            if fd >= 0:
                self._attached.append(moved_high(fd))
                return
        raise OSError(c.get_errno(), f"cannot attach a {hook.kind} to {hook.target}()")

    def close(self) -> None:
        """Waits at most about a second. Idempotent.

        All at once: each waits until no CPU runs the function's code.
        """
        closing = [Thread(target=os.close, args=(fd,)) for fd in self._attached]
        self._attached = []
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        if self._sweeper:  # this process may have no right to write to tracefs any more
            self._sweeper.communicate()


def _kprobe_events() -> Path | None:
    """The file in tracefs by which kprobes are defined; None: not mounted, or only root's."""
    candidates = (Path("/sys/kernel", at, "kprobe_events") for at in ("tracing", "debug/tracing"))
    return next((path for path in candidates if os.access(path, os.R_OK | os.W_OK)), None)


def _sweeper(events: Path, ending: str) -> subprocess.Popen[bytes]:
    """A process that waits until its stdin is closed, by `close` or by the end of this process,
    whatever ended it; then it removes the kprobe events whose names have that ending. An event
    made in tracefs outlives its maker.
    """
    # It reads nothing hostile, yet has no capability: that file is root's, and so is it.
    # A session of its own: Ctrl-C and the signals of a terminal do not reach it.
    return subprocess.Popen(
        ["sh", "-c", _SWEEP, "cowtrace-kprobe-sweeper", ending, str(events)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=child.environment(),
        preexec_fn=lambda: keep_capabilities(()),
    )


@cache
def _library() -> c.CDLL:
    library = c.CDLL("libbcc_bpf.so.0", use_errno=True)
    library.bpf_attach_kprobe.argtypes = (*[c.c_int] * 2, *[c.c_char_p] * 2, c.c_uint64, c.c_int)
    return library
