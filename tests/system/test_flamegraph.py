"""Open the flame graph in a real browser: it draws, without complaint or network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import PATIENCE

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from snapshots import calls, detail, process, snapshot

from cowtrace.analysis.stacks import stack_tree
from cowtrace.html import flamegraph

pytestmark = pytest.mark.host

EVIL = "</script><img src=x onerror=console.error(1)><b>&amp;"


def test_it_draws_without_complaint_or_network(browser: str, tmp_path: Path) -> None:
    rows = (
        detail(1, faults=23, user_stack=calls("collect_garbage", "main")),
        detail(1, faults=11, user_stack=calls(EVIL, "main", module=EVIL)),
    )
    page = tmp_path / "flame.html"
    now = snapshot(process(1, "python3"))
    with page.open("w") as stream:
        flamegraph.write(stream, stack_tree(now, rows), EVIL, "34 copies")
    shown = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,700",
         "--virtual-time-budget=5000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    # The console also reports requests that the content security policy blocks.
    assert [line for line in shown.stderr.splitlines() if "CONSOLE" in line] == []
    drawn = shown.stdout[shown.stdout.index("<body") :]
    labels = re.findall(r'class="slicetext"[^>]*>(.*?)</text>', drawn)
    assert any("collect_garbage" in label for label in labels)
    assert len(re.findall(r'<g class="slice', drawn)) >= 5
    assert "<img" not in drawn.replace("&lt;img", "")
