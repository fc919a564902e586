"""Find the browser that draws pages; a cache that tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cowtrace import cache


@pytest.fixture(scope="session")
def browser() -> str:
    """Chromium's path; skips without it."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium: apt install chromium")
    return found


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For command.asking_anew(): with what has been compiled on this kernel so far."""
    folder = tmp_path_factory.mktemp("cache")
    if cache.folder().exists():
        shutil.copytree(cache.folder(), folder / "cowtrace" / "programs")
    return folder
