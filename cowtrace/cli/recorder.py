"""Record snapshots to a file; show the progress on stderr."""

from __future__ import annotations

import sys
from typing import Self

import click

from cowtrace import proc
from cowtrace.model import Snapshot
from cowtrace.numbers import size
from cowtrace.proc import Places
from cowtrace.recording.writer import NoRoom, Writer


class Recorder:
    """Writes one snapshot per interval; a context manager that closes the file.

    `full`: the disk is full, recording has stopped. With `live`, a line on the terminal that is
    redrawn in place shows the progress.
    """

    def __init__(self, file: Writer, *, live: bool) -> None:
        self._file = file
        self._live = live and sys.stderr.isatty()
        self._is_shown = False
        self._places = Places()
        self._last: Snapshot | None = None
        self.full = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._file.close()

    def add(self, now: Snapshot) -> None:
        """Record one interval. A full disk is reported once."""
        try:
            self._places.look(now)
            self._file.add(now, proc.available_bytes(), self._places.of)
        except NoRoom as error:
            self.full = True
            self.release()
            click.echo(f"cowtrace: {error}\nHint: {error.hint}", err=True)
            return
        self._last = now
        if self._live:
            click.echo(f"\r\x1b[Kcowtrace: recording, {self.sums()}", err=True, nl=False)
            self._is_shown = True

    def release(self) -> None:
        """End the line, so that other output starts below it."""
        if self._is_shown:
            click.echo(err=True)
            self._is_shown = False

    def resized(self) -> None:
        """Do nothing: one line fits any terminal."""

    def sums(self) -> str:
        """What was recorded so far."""
        now = self._last
        if now is None:
            return "nothing"
        seconds = (now.at_ns - now.attached_ns) / 1e9
        count, copied = self._file.processes, size(self._file.copied_bytes)
        plural = "es" * (count != 1)
        return f"{seconds:,.1f} s of {count:,} process{plural}, {copied} copied"
