"""`cowtrace shared` shows what a comparison of all frames shows, and what smaps adds up to."""

from __future__ import annotations

import json
import mmap
import os
import re
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from command import COWTRACE, PATIENCE, eventually

from cowtrace.frames.words import PAGE_BYTES
from cowtrace.workloads.oracles.proc_files import are_zero_pages

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="frame numbers are root's"),
    pytest.mark.spread("6.1"),
]

FEW, MANY = 1009, 20_011  # pages; more than 64 MiB are asked where there are pages
# Three children write each page, each third, each fifth; a fourth none; the parent each seventh.
FORKS = f"""
import mmap, os, signal, sys
pages, advice = int(sys.argv[1]), int(sys.argv[2])
memory = mmap.mmap(-1, pages * {PAGE_BYTES}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
try:
    memory.madvise(advice)
except OSError:
    pass  # this kernel has no huge pages
def write(every):
    for page in range(0, pages, every):
        memory[page * {PAGE_BYTES}] = 1
write(1)
reader, writer = os.pipe()
for every in (1, 3, 5, None):
    if not os.fork():
        if every:
            write(every)
        os.write(writer, b".")
        signal.pause()
write(7)
done = 0
while done < 4:
    done += len(os.read(reader, 4))
print("ready", flush=True)
signal.pause()
"""
SMALL, HUGE = mmap.MADV_NOHUGEPAGE, mmap.MADV_HUGEPAGE


@contextmanager
def family(pages: int, advice: int = SMALL) -> Iterator[list[int]]:
    """The PIDs of a process and its children, which rest."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKS, str(pages), str(advice)],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as parent:  # fmt: skip
        try:
            assert parent.stdout
            assert parent.stdout.readline() == "ready\n"
            children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text()
            yield [parent.pid, *map(int, children.split())]
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


def at_rest(pids: list[int]) -> tuple[dict[str, Any], dict[int, list[int]]]:
    """What the command shows, and all frames; again if the kernel moved a page meanwhile."""
    for _ in range(5):
        before = {pid: anonymous_frames(pid) for pid in pids}
        found = shown(pids[0])
        if {pid: anonymous_frames(pid) for pid in pids} == before:
            break
    return found, before


def shown(pid: int) -> dict[str, Any]:
    ended = subprocess.run(
        [*COWTRACE, "shared", "--json", "-p", str(pid), "--follow"],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def anonymous_frames(pid: int) -> list[int]:
    """Each frame as often as it is mapped: by reading the entries of all mappings."""
    frames = []
    with Path(f"/proc/{pid}/pagemap").open("rb") as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if "[v" in line:  # vvar, vdso, vsyscall
                continue
            start, end = (int(at, 16) for at in line.split()[0].split("-"))
            pagemap.seek(start // PAGE_BYTES * 8)
            entries = pagemap.read((end - start) // PAGE_BYTES * 8)
            for (entry,) in struct.iter_unpack("=Q", entries):
                if entry >> 61 == 0b100:  # present, not in swap, not of a file
                    frames.append(entry & (1 << 55) - 1)
    zero = are_zero_pages(frames)
    return [frame for frame, is_zero in zip(frames, zero, strict=True) if not is_zero]


def mapped_times(frame: int) -> int:
    with Path("/proc/kpagecount").open("rb", buffering=0) as counts:
        return int.from_bytes(os.pread(counts.fileno(), 8, 8 * frame), "little")


@pytest.mark.parametrize("advice", [SMALL, HUGE])
def test_it_equals_a_comparison_of_all_frames(advice: int) -> None:
    with family(FEW, advice) as pids:
        found, frames = at_rest(pids)
    held_by = Counter(frame for each in frames.values() for frame in set(each))
    assert [process["pid"] for process in found["processes"]] == sorted(pids)
    for process in found["processes"]:
        own = frames[process["pid"]]
        common = {frame for frame in own if held_by[frame] > 1}
        assert process["common_bytes"] == PAGE_BYTES * len(common)
        # No other process has any of it: it was started by exec.
        assert process["with_others_bytes"] == 0
        assert process["freed_by_exit_bytes"] == PAGE_BYTES * len(set(own) - common)
    pairs = {tuple(pair["pids"]): pair["bytes"] for pair in found["pairs"]}
    assert pairs == {
        (one, other): PAGE_BYTES * len({*frames[one]} & {*frames[other]})
        for one, other in combinations(sorted(pids), 2)
    }
    times = Counter(held_by.values())
    assert [held["bytes"] for held in found["held_by"]] == [
        PAGE_BYTES * times[number] for number in range(1, len(pids) + 1)
    ]
    # Of the memory alone: the first child copied all, so the reader shares 6/7 with its parent.
    assert pairs[min(pids[0], pids[4]), max(pids[0], pids[4])] >= PAGE_BYTES * (FEW * 6 // 7)


def test_what_an_exit_frees() -> None:
    with family(FEW) as pids:
        leaver = pids[2]
        before, _ = at_rest(pids)
        alone = [frame for frame in anonymous_frames(leaver) if mapped_times(frame) == 1]
        os.kill(leaver, signal.SIGKILL)
        eventually(lambda: Path(f"/proc/{leaver}/statm").read_text().startswith("0 "))
        after, _ = at_rest([pid for pid in pids if pid != leaver])
    freed = {each["pid"]: each["freed_by_exit_bytes"] for each in before["processes"]}[leaver]
    assert freed == PAGE_BYTES * len(alone) > PAGE_BYTES * FEW // 3
    assert before["anonymous_bytes"] - after["anonymous_bytes"] == freed


def test_the_sum_is_that_of_smaps() -> None:
    with family(MANY) as pids:
        found, _ = at_rest(pids)
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    anonymous = [int(re.findall(r"^Pss_Anon: +(\d+) kB$", text, re.M)[0]) for text in rollups]
    # Each is rounded down to a kB, from parts of a page that are rounded down, too.
    assert abs(found["anonymous_bytes"] - 1024 * sum(anonymous)) <= 2 * PAGE_BYTES * len(pids)
