"""Make the JSON object of what processes share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cowtrace.analysis.shared import Sharing
from cowtrace.frames.entries import PAGE_BYTES


def as_object(now: Sharing, names: Mapping[int, str]) -> dict[str, Any]:
    """One line of `cowtrace shared --json`. `names`: of the processes, by pid."""
    return {
        "at_ns": now.at_ns,
        "page_bytes": PAGE_BYTES,
        "seconds": now.seconds,
        "anonymous_bytes": now.anonymous,
        "changed_pages": now.changed,
        "unread_bytes": now.unread,
        "ended": list(now.ended),
        "processes": [
            {
                "pid": held.pid,
                "comm": names[held.pid],
                "freed_by_exit_bytes": held.freed_by_exit,
                "common_bytes": held.common,
                "with_others_bytes": held.with_others,
                "file_bytes": held.files,
                "swapped_bytes": held.swapped,
            }
            for held in now.holders
        ],
        "pairs": [{"pids": pids, "bytes": common} for pids, common in now.pairs.items()],
        "held_by": [
            {"processes": number, "bytes": held} for number, held in enumerate(now.by_holders, 1)
        ],
    }
