"""Read a web config again when one of its files changes, as a renewed certificate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.prometheus.webconfig import Version, WebConfig, read, version
from cowtrace.text import printable

_LOOK_SECONDS = 2.0


class Reloading:
    """The web config of a file. `current` is the last good one; `good`: the file still is it."""

    def __init__(
        self, path: Path, demand: Callable[[WebConfig], None], report: Callable[[str], None]
    ) -> None:
        """Raise CowtraceError, also of `demand`, which refuses what lets too many in."""
        self._path, self._demand, self._report = path, demand, report
        self._used: dict[Path, Version] = {}
        self.current = self._read()
        self.good = True

    def refresh(self) -> None:
        """Read the file again if it, or one that it names, changed; report that once."""
        if all(_version(path) == seen for path, seen in self._used.items()):
            return
        try:
            self.current, self.good = self._read(), True
            self._report(f"{printable(str(self._path))} was read again")
        except CowtraceError as error:
            self.good = False
            self._report(f"{error}; the web config from before stays in use")

    @contextmanager
    def refreshed(self) -> Iterator[None]:
        """Refresh every 2 seconds in a thread: a file on a dead server holds up nothing else."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(_LOOK_SECONDS):
                self.refresh()

        threading.Thread(target=look, daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _read(self) -> WebConfig:
        self._used = {}
        found = read(self._path, self._used)
        self._demand(found)
        for warning in found.warnings:
            self._report(warning)
        return found


def _version(path: Path) -> Version:
    try:
        return version(path.stat())
    except OSError:
        return None
