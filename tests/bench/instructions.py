"""Instructions a fault, in QEMU: a number that does not depend on the machine.

With -icount the guest's clock advances 2 ns with each instruction, so the load's own clock counts
them. One boot for each kernel, all variants in it one after another.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import Any

from bench import report, variants

# `make bench KERNEL=K`: a name or a path.
_CHOSEN = os.environ.get("COWTRACE_BENCH_KERNEL")
KERNELS = (_CHOSEN,) if _CHOSEN else ("6.12", "7.2")
NS_PER_INSTRUCTION = 2  # -icount shift=1: cowtrace.vm.qemu
PAGES, REPETITIONS = 2000, 5
COUNT, PAIR = "bpftrace kprobe count", "bpftrace kprobe pair"  # what the ratios are to
_MISSING = "-"


def run(say: Callable[[str], None]) -> report.Report:
    """Every kernel. A kernel that does not boot says so in place of its table."""
    lines: list[str] = []
    data: dict[str, object] = {}
    for kernel in KERNELS:
        say(f"booting {kernel}: emulated, a few minutes")
        command = vm_command(kernel)
        rows = list(guest_rows(command, say))
        data[kernel] = {"command": " ".join(command[2:]), "rows": rows}
        lines += [*([""] if lines else []), f"### Kernel {kernel}", ""]
        lines += _kernel_lines(rows)
    measured = [row for kernel in data.values() for row in kernel["rows"]]  # type: ignore[index]
    if not any("what" in row for row in measured):
        return report.Report("Instructions per fault", lines, data)
    lines += report.prose(
        f"Instructions that one fault takes longer, median of {REPETITIONS} runs of {PAGES} "
        f"pages; ± is half of the distance between the quartiles. The last columns compare a "
        f"fault of the dearer kind with `{COUNT}` and with `{PAIR}`. Each kernel by "
        "`cowtrace vm run --icount KERNEL -- env PYTHONPATH=tests:. python3 -m bench.guest "
        f"{PAGES} {REPETITIONS}`; attached were:"
    )
    lines += report.commands({r["name"]: r["what"] for r in measured if "what" in r}.items())
    return report.Report("Instructions per fault", lines, data)


def vm_command(kernel: str) -> list[str]:
    """The guest's part on that kernel."""
    return [
        *(sys.executable, "-m", "cowtrace", "vm", "run", "--icount", kernel, "--"),
        *("env", "PYTHONPATH=/cowtrace/tests:/cowtrace", "python3", "-m", "bench.guest"),
        *(str(PAGES), str(REPETITIONS)),
    ]


def guest_rows(command: list[str], say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """What the guest prints, as it comes; a row `missing` when the VM ends badly."""
    if not shutil.which("qemu-system-x86_64"):
        yield {"name": "the VM", "missing": "qemu-system-x86_64 is not installed"}
        return
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variants.environment(),
    ) as vm:
        assert vm.stdout
        assert vm.stderr
        for line in vm.stdout:
            if line.startswith("{"):
                row = json.loads(line)
                say(f"  {row['name']}: {row.get('missing', 'measured')}")
                yield row
        said = vm.stderr.read().strip().splitlines()
    if vm.returncode:
        yield {"name": "the VM", "missing": said[0] if said else f"exit code {vm.returncode}"}


def _kernel_lines(rows: Iterable[dict[str, Any]]) -> list[str]:
    found = {row["name"]: row for row in rows}
    base = found.get("nothing attached")
    missing = [f"- {n}: {row['missing']}" for n, row in found.items() if "missing" in row]
    if not base or "missing" in base:
        return missing or ["- the guest printed nothing"]
    floor = {kind: median(base[kind]) for kind in ("copied", "remarked")}
    cost = {
        name: {
            kind: (report.spread(row[kind]) - floor[kind]) / NS_PER_INSTRUCTION
            for kind in ("copied", "remarked")
        }
        for name, row in found.items()
        if "missing" not in row and row is not base
    }

    def against(peer: str, name: str) -> str:
        if peer not in cost:
            return _MISSING
        ratios = (cost[name][k].median / cost[peer][k].median for k in ("copied", "remarked"))
        return f"{max(ratios):.2f}"

    table = report.table(
        ("Attached", "Copy", "Re-mark", "/ count", "/ pair"),
        [
            (
                name,
                *(report.signed(both[kind]) for kind in ("copied", "remarked")),
                against(COUNT, name),
                against(PAIR, name),
            )
            for name, both in cost.items()
        ],
    )
    untraced = (
        f"Nothing attached: a copy takes {floor['copied'] / NS_PER_INSTRUCTION:,.0f} "
        f"instructions, a re-mark {floor['remarked'] / NS_PER_INSTRUCTION:,.0f}."
    )
    return [*table, "", untraced, *(["", *missing] if missing else [])]
