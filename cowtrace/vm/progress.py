"""Show the progress of a build on stderr: a bar on a terminal, otherwise a line for each step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text


class Watcher:
    """Shows the steps of a build as plain lines, with the seconds since it began."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()

    def begin(self, name: str) -> None:
        """The build of the next artifact begins."""
        self._say(f"building the {name}")

    def detail(self, line: str) -> None:
        """One line of output from the program that builds it."""
        self._say(f"  {_plain(line)}")

    def _say(self, line: str) -> None:
        seconds = time.monotonic() - self._started
        self._console.print(Text(f"{seconds:5.0f} s  {line}"), soft_wrap=True)


class _Bar(Watcher):
    """A rich progress bar: one step for each artifact, with the program's last line beside it."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total)
        self._name = ""

    def begin(self, name: str) -> None:
        # The first artifact to begin finishes none.
        self._progress.update(self._task, advance=1 if self._name else 0, description=name)
        self._name = name

    def detail(self, line: str) -> None:
        words = f"{self._name}: {_plain(line)}".replace("[", r"\[")  # no markup
        self._progress.update(self._task, description=words)


@contextlib.contextmanager
def shown(total: int) -> Iterator[Watcher]:
    """Yield a watcher for a build of `total` artifacts."""
    console = Console(stderr=True, highlight=False)
    if not total or not console.is_terminal:
        yield Watcher(console)
        return
    columns = (
        TextColumn("Building"),
        BarColumn(12),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        # One line, cut to the terminal's width.
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress, total)
        progress.update(progress.task_ids[0], completed=total, description="done")


def _plain(line: str) -> str:
    """A program's line without mmdebstrap's mark for information, and without escapes."""
    words = line.removeprefix("I: ")
    return "".join(char for char in words if char.isprintable())
