"""The text of `cowtrace report`, whole; and what names may not do in it or in the page."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path

import pytest
from made_recordings import EVIL, make
from rich.cells import cell_len
from snapshots import calls, detail, mapping, process, row

from cowtrace.analysis.questions.compare import compare
from cowtrace.html.report import document
from cowtrace.model import FaultKind
from cowtrace.recording import Recording
from cowtrace.terminal.diff import diff_text
from cowtrace.terminal.report import report_text

WHOLE = """\
f: 12.0 s, 2 processes, 1 fork: 1.59 MiB copied.
The largest parts by side: parents, after a fork (67.6%); by mapping: [heap]
(67.6%); by code: garbage collection (about 67.6%). Not levelling off: the last
quarter brought 25.0% of the copies. At most 14.4 MiB may still be copied.
./job; 2026-11-18 11:06:40 UTC; plan kprobe, kernel 6.12.43+deb13-cloud-amd64,
pages of 4,096 bytes

 1. How many bytes were really copied, re-marked, zero-filled?
    copied                              1.59 MiB     408 faults  exact
    zero-filled                                0       0 faults  exact
    re-marked only, faults                    12                 exact
    shared memory, faults                      0                 exact

 2. By whom: parent or child, since which fork?
    parents, after a fork               1.08 MiB                 exact
    children, since their fork           528 KiB                 exact
    outside of any fork's sharing              0                 exact
    fork 1 (0.5 s): 1 > 2               1.59 MiB                 exact
    1 fork recorded.

 3. In which mapping?
    [heap]                              1.08 MiB                 exact
    [anon:</script><b>\\x1b[31m]          528 KiB                 exact

 4. By which code, in which phase?
    phase: garbage collection           1.08 MiB                 estimate
    gc_collect_main (python3.13)        1.08 MiB                 estimate
    </script><b>\\x1b[31m (script><b>…    528 KiB                 estimate
    From samples of the copies and their stacks.

 5. How fast, and is it levelling off?
    mean                               136 KiB/s                 exact
    traced time, of the mean               12.0s                 exact
    fastest interval                   136 KiB/s                 exact
    share of it in the last quarter        25.0%                 exact
    sharing lost, most of any fork         10.0%                 upper bound
    Not levelling off: the last quarter brought 25.0% of the copies.
    ████████████ 0 to 136 KiB/s, a block: 1.00 s

 6. Did my fix help?
    record both, then: cowtrace diff BEFORE AFTER

 7. Is THP, hugetlb or KSM making it worse?
    huge pages (THP)                     528 KiB                 exact
    hugetlb                                    0                 exact
    KSM                                        0                 exact
    small pages                         1.08 MiB                 exact

 8. What latency does the parent's write path pay?
    parent, copied, in all                 580µs     276 faults  exact
    parent, copied, p50                   4.10µs                 upper bound
    parent, copied, p99                   4.10µs                 upper bound
    child, copied, in all                 5.00ns     132 faults  exact
    child, copied, p50                    8.19µs                 upper bound
    child, copied, p99                    8.19µs                 upper bound
    forks, in all                              -                 not recorded

 9. Can it end in OOM: copied so far, and the most that may come?
    copied so far                       1.59 MiB                 exact
    may still be copied                 14.4 MiB                 upper bound
    1 fork still shared at the end.

10. Is the trace complete?
    lost                                       0                 exact
    lost in details                            0                 exact
    unclassified                               0                 exact
    The recording ended as it was meant to.

11. Where did private memory come from?
    private memory                             -                 not recorded
    To record it: cowtrace record --private.

12. What was written, of which type?
    what was written                           -                 not recorded
    To record it: cowtrace record --objects.
"""
LINES = "/tmp/a\n10. Is the trace complete?\r\x1b[2J"  # would write an answer of its own
WIDE = "\u6f22" * 60  # two cells each


def named(recording: Recording, name: str) -> Recording:
    """Everything that has a name has this one."""
    last = replace(
        recording.last,
        processes=tuple(process(pid, name, row(FaultKind.COPIED, 23)) for pid in (1, 2)),
        details=(detail(1, mapping=mapping(name)),),
        samples=(detail(1, user_stack=calls(name, name, module=name)),),
    )
    return replace(recording, last=last, header=replace(recording.header, command=name), ended=name)


def test_the_whole_text(tmp_path: Path) -> None:
    assert f"{report_text(make(tmp_path / 'f'), 'f').plain}\n" == WHOLE


@pytest.mark.parametrize(
    "name", [LINES, WIDE, EVIL, "[bold]x[/bold]", ""], ids=lambda name: ascii(name)[:12]
)
def test_no_name_acts_in_text(tmp_path: Path, name: str) -> None:
    made = make(tmp_path / "f")
    evil = named(made, name)
    for shown in (report_text(evil, "f").plain, diff_text(compare(made, evil, ("A", "B"))).plain):
        assert "\x1b" not in shown
        assert "\r" not in shown
        assert shown.count("\n10. Is the trace complete?\n") == 1
        assert max(map(cell_len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    "name",
    [LINES, WIDE, EVIL, "</title><img src=//x>", "&lt;b&gt;"],
    ids=lambda name: ascii(name)[:12],
)
def test_no_name_acts_in_the_page(tmp_path: Path, name: str) -> None:
    pytest.importorskip("plotly", reason="the extra cowtrace[report] is not installed")
    made = make(tmp_path / "f")
    page, plain = (document(named(made, each), each) for each in (name, "plain"))
    for tag in ("<script", "</script", "<img", "<b>", "<title", "</title", "\x1b", "\r"):
        assert page.count(tag) == plain.count(tag), tag
    shown = html.unescape(page.partition("</title>")[0].rpartition("<title>")[2])
    assert shown.endswith(": copy-on-write")
    assert "\n" not in shown
