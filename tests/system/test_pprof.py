"""Open a profile with pprof itself: it shows exactly what the rows hold."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from command import COWTRACE, PATIENCE, eventually, is_confined
from sources import writes

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from snapshots import PAGE, calls, detail, process, snapshot

from cowtrace.analysis.profile import profile
from cowtrace.machine.pprof import write_pprof
from cowtrace.model import FaultKind

pytestmark = pytest.mark.host

EVIL = "</script>\n  999: 1 2 3\x1b[31m"


PAGES = 509
NAME = "cow-pprof"
WORK = f"""
{writes(PAGES)}
ctypes.CDLL(None).prctl(15, b"{NAME}")
child = os.fork()
if not child:
    write()
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.fixture(autouse=True)
def _installed() -> None:
    if shutil.which("go") is None:
        pytest.skip("pprof is not installed: apt install golang-go")


@pytest.fixture
def written(tmp_path: Path) -> Path:
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


def values(raw: str) -> list[tuple[int, ...]]:
    """Of each sample."""
    samples = raw[raw.index("Samples:") : raw.index("Locations")]
    lines = re.findall(r"^((?: +\d+)+): ", samples, re.M)
    return [tuple(map(int, line.split())) for line in lines]


def test_it_shows_the_bytes_of_the_rows(written: Path) -> None:
    raw = pprof("-raw", written)
    samples = raw[raw.index("Samples:") : raw.index("Locations")]
    assert sorted(values(raw)) == [
        (5 * PAGE, 5, 0, 0),
        (11 * PAGE, 11, 0, 0),
        (23 * PAGE, 23, 7, 0),
    ]
    assert samples.count("cgroup:[/app.slice]") == 2
    assert samples.count("comm:[redis]") == 1
    assert "\x1b" not in raw


@pytest.mark.usefixtures("can_trace")
def test_a_trace_has_the_bytes_of_the_table(tmp_path: Path) -> None:
    """`cowtrace stacks --frame-pointers` and `cowtrace top`, of the same processes."""
    path = tmp_path / "copies.pb.gz"
    commands = (
        ["top", "--json", "--comm", NAME, "0.5"],
        ["stacks", "--comm", NAME, "--frame-pointers", "-o", str(path), "3600"],
    )
    with ExitStack() as stack:
        running = []
        for command in commands:
            started = subprocess.Popen([*COWTRACE, *command], stdout=subprocess.PIPE, text=True)
            running.append(stack.enter_context(started))
            if command[0] == "stacks":
                assert eventually(partial(is_confined, started.pid))
            else:
                assert started.stdout
                assert started.stdout.readline()
        subprocess.run([sys.executable, "-c", WORK], check=True, timeout=PATIENCE)
        for each in reversed(running):
            each.send_signal(signal.SIGINT)
        assert running[0].stdout
        shown = json.loads(running[0].stdout.read().splitlines()[-1])
        for each in running:
            assert each.wait(PATIENCE) == 0
    copied = sum(each["copied"] + each["file_copied"] for each in shown["processes"])
    assert copied >= PAGES or shown["lost"]
    pages = [each[1] for each in values(pprof("-raw", path))]
    if not shown["lost"]:
        assert sum(pages) == copied


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
