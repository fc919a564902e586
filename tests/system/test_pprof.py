"""Open a profile with pprof itself: it shows exactly what the rows hold."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import PATIENCE

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from snapshots import PAGE, calls, detail, process, snapshot

from cowtrace.analysis.profile import profile
from cowtrace.machine.pprof import write_pprof
from cowtrace.model import FaultKind

pytestmark = pytest.mark.host

EVIL = "</script>\n  999: 1 2 3\x1b[31m"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    if shutil.which("go") is None:
        pytest.skip("pprof is not installed: apt install golang-go")
    rows = (
        detail(1, faults=23, user_stack=calls("collect_garbage", "main")),
        detail(1, faults=11, user_stack=calls(EVIL, "main", module=EVIL)),
        detail(1, FaultKind.REUSED, 7, user_stack=calls("collect_garbage", "main")),
        detail(2, faults=5),
    )
    now = snapshot(process(1, "python3"), process(2, "redis"))
    found = profile(now, rows, {1: "/app.slice"}, copies_only=False)
    path = tmp_path / "copies.pb.gz"
    with path.open("wb") as stream:
        write_pprof(stream, found, began_ns=10**18, duration_ns=10**9, comments=["every copy"])
    return path


def pprof(*arguments: str | Path) -> str:
    return subprocess.run(
        ["go", "tool", "pprof", *arguments],
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    ).stdout  # fmt: skip


def test_it_shows_the_bytes_of_the_rows(written: Path) -> None:
    raw = pprof("-raw", written)
    samples = raw[raw.index("Samples:") : raw.index("Locations")]
    values = re.findall(r"^ +(\d+) +(\d+) +(\d+) +(\d+): ", samples, re.M)
    assert sorted(tuple(map(int, each)) for each in values) == [
        (5 * PAGE, 5, 0, 0),
        (11 * PAGE, 11, 0, 0),
        (23 * PAGE, 23, 7, 0),
    ]
    assert samples.count("cgroup:[/app.slice]") == 2
    assert samples.count("comm:[redis]") == 1
    assert "\x1b" not in raw


def test_its_list_and_its_tags(written: Path) -> None:
    top = pprof("-top", "-unit=B", written)
    assert re.search(r"^Type: copied_bytes", top, re.M)
    assert re.search(rf"^ +{23 * PAGE}B .* collect_garbage$", top, re.M)
    assert re.search(rf"^ +0 +0% .* {34 * PAGE}B .* main$", top, re.M)
    assert re.search(rf"^ +{5 * PAGE}B .* redis$", top, re.M)
    by_process = pprof("-top", "-unit=B", "-tagroot=comm", written)
    assert re.search(rf" {34 * PAGE}B .* python3$", by_process, re.M)
    pages = pprof("-top", "-sample_index=copied_pages", written)
    assert re.search(r"^ +23 .* collect_garbage$", pages, re.M)
