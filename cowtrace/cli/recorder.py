"""Record snapshots to a file; show the progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from cowtrace import proc
from cowtrace.model import Snapshot
from cowtrace.numbers import size
from cowtrace.proc import Places
from cowtrace.recording.writer import NoRoom, Writer
from cowtrace.text import printable


class StatusLine:
    """One line that is redrawn in place, on a terminal and if `live`; otherwise nothing."""

    def __init__(self, *, live: bool) -> None:
        self._live = live and sys.stderr.isatty()
        self._shown = False

    def show(self, text: str) -> None:
        """Redraw the line."""
        if self._live:
            click.echo(f"\r\x1b[K{text}", err=True, nl=False)
            self._shown = True

    def release(self) -> None:
        """End the line, so that other output starts below it."""
        if self._shown:
            click.echo(err=True)
            self._shown = False

    def resized(self) -> None:
        """Do nothing: one line fits any terminal."""


class Recorder:
    """Writes one snapshot per interval. `full`: the disk is full, recording has stopped."""

    def __init__(self, file: Writer, name: str, status: StatusLine) -> None:
        self._file = file
        self._name = printable(name)
        self._status = status
        self._places = Places()
        self._last: Snapshot | None = None
        self.full = False

    def add(self, now: Snapshot) -> None:
        """Record one interval. A full disk is reported once."""
        try:
            self._places.look(now)
            self._file.add(now, proc.available_bytes(), self._places.of)
        except NoRoom as error:
            self.full = True
            self._status.release()
            click.echo(f"cowtrace: {error}\nHint: {error.hint}", err=True)
            return
        self._last = now
        self._status.show(f"cowtrace: recording, {self._sums()}")

    def run(self, work: Callable[[], int]) -> int | None:
        """Do the work, then close the file, also when the work raises.

        Return the exit code of the work; None: the disk was full.
        """
        try:
            code = work()
        finally:
            self._status.release()
            self._file.close()
        if self.full:
            return None
        click.echo(f"cowtrace: recorded {self._sums()}", err=True)
        click.echo(f"Read it: cowtrace report {self._name}", err=True)
        return code

    def _sums(self) -> str:
        now = self._last
        if now is None:
            return "nothing"
        seconds = (now.at_ns - now.attached_ns) / 1e9
        copied = size(sum(process.copied_bytes for process in now.processes))
        number = len(now.processes)
        plural = "es" * (number != 1)
        return f"{seconds:,.1f} s of {number:,} process{plural}, {copied} copied"
