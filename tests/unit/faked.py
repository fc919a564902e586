"""`python faked.py ARGS`: the command line over a made-up tracer, for tests that need a process.

Every snapshot holds this very process and, born of it, what it starts; it appends `closed` to
the file that FAKED_LOG names when the tracer is closed.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from snapshots import FakeTracer, process, row, snapshot

import cowtrace.tracer
from cowtrace.cli import main
from cowtrace.model import FaultKind, Snapshot


class LoggedTracer(FakeTracer):
    def __init__(self) -> None:
        super().__init__(snapshot())
        self.started = time.monotonic()
        self.log("attached")

    def log(self, what: str) -> None:
        with Path(os.environ.get("FAKED_LOG", os.devnull)).open("a") as log:
            log.write(f"{what}\n")

    def snapshot(self) -> Snapshot:
        at = time.monotonic() - self.started
        me = os.getpid()
        own = process(me, "faked", row(FaultKind.COPIED, 23))
        children = [int(pid) for pid in os.environ.get("FAKED_CHILDREN", "").split()]
        born = [process(p, "born", row(FaultKind.COPIED, 509), parent=me) for p in children]
        return replace(snapshot(own, *born, at=at))

    def close(self) -> None:
        self.log("closed")


def attach(plan: str = "auto", **options: Any) -> LoggedTracer:
    return LoggedTracer()


def run() -> None:
    cowtrace.tracer.attach = attach  # type: ignore[assignment]
    main(prog_name="cowtrace")


if __name__ == "__main__":
    run()
