"""Make JSON objects of page frames: who shares them, and where private memory came from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from cowtrace.analysis.private import TRACED, Accounts
from cowtrace.analysis.shared import Sharing
from cowtrace.frames.words import PAGE_BYTES
from cowtrace.machine.objects import fields
from cowtrace.model import Account, Cause, Snapshot

_HELD = ("freed_by_exit", "common", "with_others")


def sharing(now: Sharing, names: Mapping[int, str]) -> dict[str, Any]:
    """What processes share. `names`: of the processes, by pid."""
    return {
        "at_ns": now.at_ns,
        "page_bytes": PAGE_BYTES,
        "seconds": now.seconds,
        **_sizes(now, "anonymous"),
        "changed_pages": now.changed,
        **_sizes(now, "unread"),
        "ended": list(now.ended),
        "processes": [
            {
                "pid": held.pid,
                "comm": names[held.pid],
                **_sizes(held, *_HELD),
                "file_bytes": held.files,
                **_sizes(held, "swapped"),
            }
            for held in now.holders
        ],
        "pairs": [{"pids": pids, "bytes": common} for pids, common in now.pairs.items()],
        "mappings": now.mappings
        and [{**fields(each, "pid", "name"), **_sizes(each, *_HELD)} for each in now.mappings],
        "held_by": [
            {"processes": number, "bytes": held} for number, held in enumerate(now.by_holders, 1)
        ],
    }


def accounts(found: Accounts, traced: Snapshot | None, seconds: float) -> dict[str, Any]:
    """Where private memory came from since the start, `seconds` ago. None: it is not traced."""
    return {
        "at_ns": time.monotonic_ns(),
        "seconds": seconds,
        "read_seconds": found.seconds,
        "page_bytes": PAGE_BYTES,
        "plan": traced and traced.plan,
        "lost": traced and traced.completeness.lost,
        "processes": [_account(one) for one in found.accounts],
    }


def _account(one: Account) -> dict[str, Any]:
    return {
        **fields(one, "pid", "comm", "ended"),
        **_sizes(one, "began", "now"),
        **{f"{cause.value}_bytes": one.bytes(cause) for cause in Cause},
        "file_bytes": one.files,
        **_sizes(one, "unexplained", "copied"),
        **{f"traced_{c.value}_bytes": one.traced and one.traced[c] for c in TRACED.values()},
        **_sizes(one, "anonymous", "swap", "moved", "unread"),
    }


def _sizes(source: object, *names: str) -> dict[str, Any]:
    """Attributes that are bytes."""
    return {f"{name}_bytes": getattr(source, name) for name in names}
