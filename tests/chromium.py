"""Open a page in a real browser, act on it, and read what is drawn."""

from __future__ import annotations

import subprocess
from pathlib import Path

from command import PATIENCE


def drawn(browser: str, page: Path, *options: str, script: str = "") -> str:
    """The elements of the page's body after its scripts, and this `script` on it, have run.

    Fails where the page complains: the console also reports requests that the content security
    policy blocks.
    """
    if script:
        text = page.read_text()
        page = page.with_name(f"acted-{page.name}")
        page.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
    shown = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={page.parent / 'profile'}", *options,
         "--virtual-time-budget=8000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert [line for line in shown.stderr.splitlines() if "CONSOLE" in line] == []
    return shown.stdout[shown.stdout.index("<body") :]
