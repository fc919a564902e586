"""Return probes that many threads can be inside of at once, and are gone however cowtrace ends.

A kretprobe follows as many threads at a time as it has instances ("maxactive"), by default about
as many as there are CPUs; threads that sleep in a fault use them up and returns go missing. Only
tracefs takes another number, and an event made there outlives its maker: a small process of its
own waits for that and removes what was left.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

MAXACTIVE = 1024  # threads inside one function at once

# Waits for the end of its stdin, then removes the events that BCC named after process $1.
_SWEEP = r"""
cat >/dev/null
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    left=$(sed -n "s|^[pr][0-9]*:\(kprobes/[^ ]*_bcc_$1\) .*|-:\1|p" "$2")
    [ -n "$left" ] || exit 0
    for event in $left; do echo "$event" >>"$2"; done 2>/dev/null
    sleep 0.1
done
"""


def kprobe_events() -> Path | None:
    """The file in tracefs by which kprobes are defined; None: not mounted, or only root's."""
    candidates = (Path("/sys/kernel", at, "kprobe_events") for at in ("tracing", "debug/tracing"))
    return next((path for path in candidates if os.access(path, os.R_OK | os.W_OK)), None)


class Guardian:
    """Removes this process's kprobe events when `close` is called, or when the process is gone."""

    def __init__(self, events: Path) -> None:
        # A session of its own: Ctrl-C and the signals of a terminal do not reach it.
        self._process = subprocess.Popen(
            ["sh", "-c", _SWEEP, "cowtrace-guardian", str(os.getpid()), str(events)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """Let it sweep, and wait for it: at most about a second. Idempotent."""
        self._process.communicate()
