"""Show on stderr which run of `cowtrace try` goes on, and how long all may take."""

from __future__ import annotations

import sys
import time

import click

from cowtrace.numbers import age
from cowtrace.text import COLUMNS, fit

_QUIET_SECONDS = 5.0  # between two lines, on a pipe


class Progress:
    """A line that is redrawn; on a pipe, one now and then."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._began = time.monotonic()
        self._next = 0.0
        self._redraws = sys.stderr.isatty()

    def show(self, name: str, *, is_counted: bool) -> None:
        """A run begins. On a pipe, a line for some of them is enough."""
        spent = time.monotonic() - self._began
        left = spent / self._done * (self._total - self._done) if self._done else None
        self._done += 1
        words = f"cowtrace: run {self._done} of {self._total}: {name}"
        words += "" if is_counted else ", warm-up"
        words += "" if left is None else f", about {age(left)} left"
        if self._redraws:
            click.echo(f"\r\x1b[K{fit(words, COLUMNS - 1)}", err=True, nl=False)
        elif time.monotonic() >= self._next:
            click.echo(words, err=True)
            self._next = time.monotonic() + _QUIET_SECONDS

    def end(self) -> None:
        """Leave the line empty, so that other output starts there."""
        if self._redraws:
            click.echo("\r\x1b[K", err=True, nl=False)
