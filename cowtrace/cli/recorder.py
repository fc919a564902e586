"""Record snapshots to a file; show the progress on stderr."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Self

import click

from cowtrace import proc
from cowtrace.model import Snapshot
from cowtrace.numbers import size
from cowtrace.proc import Places
from cowtrace.recording.writer import NoRoom, Writer


@dataclass(slots=True)
class TracedTime:
    """When the first traced process started, and when the last one had ended: CLOCK_MONOTONIC.

    `from_ns` is at least the time of attach. `until_ns` None: one still runs.
    """

    from_ns: int | None = None
    until_ns: int | None = None

    def look(self, now: Snapshot, boot_ahead_ns: int) -> None:
        """Take it from the processes of a snapshot. `boot_ahead_ns`: the boot time clock less the
        monotonic one, by which the starts of processes are converted.
        """
        attached_ns = now.attached_ns
        if now.processes and (self.from_ns is None or self.from_ns > attached_ns):
            starts = (
                attached_ns if process.start_ns is None else process.start_ns - boot_ahead_ns
                for process in now.processes
            )
            first = max(attached_ns, min(starts))
            self.from_ns = first if self.from_ns is None else min(first, self.from_ns)
        if not all(process.exited for process in now.processes):
            self.until_ns = None
        elif now.processes and self.until_ns is None:
            self.until_ns = now.at_ns


class Recorder:
    """Writes one snapshot per interval; a context manager that closes the file.

    `full`: the disk is full, recording has stopped. With `live`, a line on the terminal that is
    redrawn in place shows the progress. `chosen`: by PID or as a command; the caller knows when
    they run, `ran` records it.
    """

    def __init__(self, file: Writer, *, live: bool, chosen: bool = False) -> None:
        self._file = file
        self._chosen = chosen
        self._traced = TracedTime()
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
        if not self._chosen:  # others may come and go
            boot_ahead_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
            self._traced.look(now, boot_ahead_ns)
            self._file.traced(self._traced.from_ns, self._traced.until_ns)
        if self._live:
            click.echo(f"\r\x1b[Kcowtrace: recording, {self.sums()}", err=True, nl=False)
            self._is_shown = True

    def ran(self, from_ns: int, until_ns: int | None = None) -> None:
        """Record when a chosen process ran. None: it still does."""
        self._traced = TracedTime(from_ns, until_ns)
        self._file.traced(from_ns, until_ns)

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
        ran = self._traced
        from_ns = now.attached_ns if ran.from_ns is None else ran.from_ns
        until_ns = now.at_ns if ran.until_ns is None else min(ran.until_ns, now.at_ns)
        seconds = max(0, until_ns - from_ns) / 1e9
        count, copied = self._file.processes, size(self._file.copied_bytes)
        plural = "es" * (count != 1)
        return f"{seconds:,.1f} s of {count:,} process{plural}, {copied} copied"
