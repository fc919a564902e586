"""The load that is measured: pages written after a fork, by the child and then by the parent.

    python -m bench.writer PAGES REPETITIONS FILE [THREAD]

Each repetition forks. The child writes every page, and each is copied; when it has ended, the
parent writes every page, and each is only re-marked. FILE gets one JSON object: nanoseconds of
processor time a page, a number for each repetition. With THREAD, whatever it is, a second thread of
each process sleeps meanwhile.
"""

from __future__ import annotations

import gc
import json
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from cowtrace.workloads.region import Backing, Region, map_region, touch_scratch


@dataclass(frozen=True, slots=True)
class Load:
    """Nanoseconds of processor time a page, of each repetition."""

    copied: tuple[float, ...]
    remarked: tuple[float, ...]


def write(pages: int, repetitions: int, *, thread: bool) -> Load:
    """Do it in this process, on one CPU."""
    gc.disable()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    region = map_region(pages, Backing.ANONYMOUS)
    region.store(1)
    touch_scratch()
    times = [(_child_store(region, thread), _store(region, thread)) for _ in range(repetitions)]
    copied, remarked = zip(*times, strict=True)
    return Load(copied, remarked)


def read(file: Path) -> Load:
    """What `main` has written."""
    found = json.loads(file.read_text())
    return Load(tuple(found["copied"]), tuple(found["remarked"]))


def _store(region: Region, thread: bool) -> float:
    with _sleeping_thread() if thread else nullcontext():
        start_ns = time.thread_time_ns()
        region.store(2)
        return (time.thread_time_ns() - start_ns) / region.pages


@contextmanager
def _sleeping_thread() -> Iterator[None]:
    end = threading.Event()
    sleeper = threading.Thread(target=end.wait)
    sleeper.start()
    yield
    end.set()
    sleeper.join()


def _child_store(region: Region, thread: bool) -> float:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, struct.pack("d", _store(region, thread)))
        os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    (spent_ns,) = struct.unpack("d", os.read(reading, 8))
    os.close(reading)
    return float(spent_ns)


if __name__ == "__main__":
    load = write(int(sys.argv[1]), int(sys.argv[2]), thread=len(sys.argv) > 4)
    Path(sys.argv[3]).write_text(json.dumps(asdict(load)))
