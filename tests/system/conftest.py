"""Find the browser that draws pages."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(scope="session")
def browser() -> str:
    """Chromium's path; skips without it, or without what draws the pages."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium: apt install chromium")
    pytest.importorskip("plotly", reason="the extra cowtrace[report] is not installed")
    return found
