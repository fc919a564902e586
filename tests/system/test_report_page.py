"""Open a recording's page in a real browser: it draws, without complaint or network."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from chromium import drawn

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from made_recordings import make

from cowtrace.html.report import document

pytestmark = pytest.mark.host


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_draws_without_complaint_or_network(browser: str, tmp_path: Path, theme: str) -> None:
    pytest.importorskip("plotly", reason="the extra cowtrace[report] is not installed")
    page = tmp_path / "page.html"
    page.write_text(document(make(tmp_path / "f"), "</title><b>"))
    dark = ["--blink-settings=preferredColorScheme=0"] if theme == "dark" else []
    shown = drawn(browser, page, "--window-size=1200,3000", *dark)
    section = re.compile(r"<section id=[\"'](\w+)[\"']>(.*?)</section>", re.DOTALL)
    charts: dict[str, str] = dict(section.findall(shown))
    assert len(re.findall(r'<g class="point"', charts["time"])) >= 24  # 12 intervals, 2 processes
    assert len(re.findall(r'<g [^>]*class="frame"', charts["flame"])) >= 4
    assert "gc_collect_main" in charts["flame"]
    assert len(re.findall(r'<g class="slice', charts["mappings"])) >= 4
    assert "[heap]" in charts["mappings"]
    assert len(re.findall(r'<g class="point"', charts["latency"])) >= 2
    assert "parent" in charts["latency"]
    assert "child" in charts["latency"]
    assert "Lost: 0 faults" in charts["completeness"]
    assert "<b>\\x1b" not in shown
