"""Time in fork and page tables that it makes, by touched memory: here, and on 6.12 in the VM.

    python -m bench.fork MIB...

prints a line of JSON for each size and kind of pages: bench.fork in the VM.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from bench import report, variants
from bench.instructions import guest_rows
from cowtrace import tracer

MIB = (64, 256, 1024, 4096)
VM_KERNEL = os.environ.get("COWTRACE_BENCH_KERNEL") or "6.12"
VM_MIB = (64, 256, 1024)  # it has 2 GiB
FORKS = 11  # of each. The fastest is shown: other work on the machine only holds up
_PAGES = {"small": mmap.MADV_NOHUGEPAGE, "huge": mmap.MADV_HUGEPAGE}
# What others measured, each on a stock kernel: per GB of touched memory.
_PUBLISHED = (
    ("CoW page tables, the patches' letters", "3.9 to 4.4 ms", "2,076 kB"),
    # Their abstracts say how much faster their own forks are, and not how long the stock one takes.
    ("On-demand-fork, EuroSys'21", "-", "-"),
    ("Async-fork, VLDB'23", "-", "-"),
)


def run(say: Callable[[str], None]) -> report.Report:
    """Both machines. Raises Missing."""
    if os.geteuid():
        raise variants.Missing("tracing is root's")
    say("this machine")
    here = list(measure(MIB))
    say(f"booting {VM_KERNEL}: without hardware virtualisation, a few minutes")
    command = [
        *(sys.executable, "-m", "cowtrace", "vm", "run", "--timeout", "1800", VM_KERNEL, "--"),
        *("env", "PYTHONPATH=/cowtrace/tests:/cowtrace", "python3", "-m", "bench.fork"),
        *map(str, VM_MIB),
    ]
    there = list(guest_rows(command, say))
    lines = ["### This machine", "", *_table(here)]
    lines += ["", f"### Kernel {VM_KERNEL}, in the VM", "", *_table(there)]
    lines += ["", "### Published, per GB on a stock kernel", ""]
    lines += report.table(("Where", "Fork", "Page tables"), _PUBLISHED)
    lines += report.prose(
        f"The fastest of {FORKS} forks of a Python process that has touched so much anonymous "
        "memory; its child exits at once. `fork()` is the parent's own clock around the call, "
        "untraced, and with cowtrace attached; FORK, lock and TABLES are those of `cowtrace forks "
        f"--json`, by the {here[0]['plan']} plan here (the tracepoint plan's FORK is a lower "
        f"bound), and the {there[0].get('plan', 'fentry')} plan in the VM. Those who published "
        "had other processors, a C program and no hypervisor below. Page tables do not depend on "
        "these: compare them; times compare only on one machine."
    )
    return report.Report("What fork costs", lines, {"host": here, VM_KERNEL: there})


def measure(sizes: Iterable[int]) -> Iterator[dict[str, Any]]:
    """A row for each size and kind of pages: untraced first, then with the tracer attached."""
    gc.disable()
    cases = [(mib, kind) for mib in sizes for kind in _PAGES]
    untraced = {case: [each for each, _ in _forks(*case)] for case in cases}
    with tracer.attach("auto", details=frozenset({"generation"})) as live:
        for mib, kind in cases:
            own = {child: ns for ns, child in _forks(mib, kind)}
            made = [fork for fork in live.snapshot().generations if fork.child in own]
            yield {
                "name": f"{mib} MiB, {kind}",
                **{"mib": mib, "pages": kind, "plan": live.plan, "kernel": os.uname().release},
                "untraced_ns": untraced[mib, kind],
                "traced_ns": [*own.values()],
                "fork_ns": [fork.fork_ns for fork in made],
                "lock_ns": [fork.lock_ns for fork in made],
                "page_table_bytes": [fork.page_table_bytes for fork in made],
            }


def _forks(mib: int, kind: str) -> list[tuple[int, int]]:
    """(ns by this process's own clock, the child) of each fork."""
    with closing(mmap.mmap(-1, mib << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)) as memory:
        memory.madvise(_PAGES[kind])
        memory[:: mmap.PAGESIZE] = bytes(len(memory) // mmap.PAGESIZE)
        return [_fork() for _ in range(FORKS)]


def _fork() -> tuple[int, int]:
    began = time.monotonic_ns()
    child = os.fork()
    if not child:
        os._exit(0)
    ns = time.monotonic_ns() - began
    os.waitpid(child, 0)
    return ns, child


def _table(rows: Iterable[dict[str, Any]]) -> list[str]:
    found = list(rows)
    cells = [_cells(row) for row in found if "missing" not in row]
    head = ("Touched", "fork()", "traced", "FORK", "a GiB", "lock", "TABLES", "a GiB")
    missing = [f"- {row['name']}: {row['missing']}" for row in found if "missing" in row]
    return [*(report.table(head, cells) if cells else []), *missing]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    gib = row["mib"] / 1024
    fork, lock, tables = (_least(row[name]) for name in ("fork_ns", "lock_ns", "page_table_bytes"))
    return (
        row["name"],
        *(_ms(min(row[name])) for name in ("untraced_ns", "traced_ns")),
        *(_ms(fork), _ms(None if fork is None else fork / gib), _ms(lock)),
        *(_kib(tables), _kib(None if tables is None else tables / gib)),
    )


def _least(values: Sequence[float | None]) -> float | None:
    """None: one is not known."""
    known = [value for value in values if value is not None]
    return min(known) if known and len(known) == len(values) else None


def _ms(ns: float | None) -> str:
    return "-" if ns is None else f"{ns / 1e6:.2f} ms"


def _kib(size: float | None) -> str:
    return "-" if size is None else f"{size / 1024:,.0f} KiB"


if __name__ == "__main__":
    for each in measure(map(int, sys.argv[1:])):
        print(json.dumps(each), flush=True)
