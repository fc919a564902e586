"""`cowtrace demo`: play and trace, live, what fork shares and what a write copies."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import click

from cowtrace.analysis.processes import Frame, rows
from cowtrace.cli.attach import attach
from cowtrace.cli.kernels import Machine, machine_options, run_in_vm
from cowtrace.cli.live import NOTHING_MORE
from cowtrace.cli.options import attach_option
from cowtrace.demo import presenter
from cowtrace.demo.acts import Act, Played, Stage, check_pages
from cowtrace.errors import EXIT_MISMATCH
from cowtrace.model import Snapshot
from cowtrace.terminal.screen import can_redraw
from cowtrace.workloads.region import REGION_END, REGION_START

PAGES = 20_000
_TERMINAL_PAUSE = 1.5  # seconds after each act: nine of them, and it stays below 20 s
_REFRESH = 0.3


@click.command(epilog="\b\nExample:\n  sudo cowtrace demo --pages 100000")
@click.option("--pages", type=int, default=PAGES, show_default=True, metavar="N",
              help="Fill N pages in the parent; takes three times their memory.")  # fmt: skip
@click.option("--pause", type=click.FloatRange(min=0), metavar="SECONDS", show_default=False,
              help=f"Wait after each act; {_TERMINAL_PAUSE} by default, 0 on a pipe.")  # fmt: skip
@click.option("--kernel", metavar="K",
              help="Show it in the test VM on this kernel, a name or a path.")  # fmt: skip
@machine_options
@attach_option
def demo(pages: int, pause: float | None, kernel: str | None, machine: Machine, plan: str) -> None:
    """Show live what fork shares and what a write copies.

    A parent fills memory and forks; child and parent then write it in turn, and once more with
    a shared mapping. The table counts only faults in that memory, so the numbers are exact, and
    each act is checked against the frame numbers in /proc/PID/pagemap. Exit code 4 if they
    disagree. Times include the tracer's own cost.
    """
    check_pages(pages)
    if kernel:
        wait = [] if pause is None else [f"--pause={pause}"]
        command = ["cowtrace", "demo", f"--pages={pages}", f"--attach={plan}", *wait]
        click.get_current_context().exit(run_in_vm(kernel, command, machine))
    on_terminal = can_redraw(sys.stdout)
    if pause is None:
        pause = _TERMINAL_PAUSE if on_terminal else 0.0
    played: list[Played] = []
    with (
        attach(plan, region=(REGION_START, REGION_END)) as counts,
        Stage(counts.snapshot, pages) as stage,
        presenter.Presenter(sys.stdout, live=on_terminal) as shown,
    ):
        counts.confine(NOTHING_MORE)
        for number, act in enumerate(Act, start=1):
            shown.announce(number, act, pages)
            played.append(stage.play(act))
            shown.describe(played[-1])
            _linger(lambda: shown.show(_frame(counts.snapshot(), stage.pids)), pause)
        last = replace(_frame(counts.snapshot(), stage.pids), total=True)
        shown.show(last, final=True)
    shown.close(played, last)
    agreed = not any(one.disagreements or not one.answer.data_right for one in played)
    if not agreed or last.snapshot.completeness.lost or last.snapshot.unclassified:
        click.get_current_context().exit(EXIT_MISMATCH)


def _linger(show: Callable[[], None], seconds: float) -> None:
    """Give the reader time to read; keep refreshing the table."""
    until = time.monotonic() + seconds
    show()
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(_REFRESH, left))
        show()


def _frame(now: Snapshot, pids: set[int]) -> Frame:
    """All processes of the demo, in the order of their creation; mean rates."""
    cast = now.only(process for process in now.processes if process.pid in pids)
    return Frame(cast, rows(cast, None, sort="pid", always=pids), len(cast.processes))
