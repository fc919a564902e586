"""Show the demo: sentences that scroll above a live table, or plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cowtrace.analysis.processes import Frame
from cowtrace.demo import narration
from cowtrace.demo.acts import KINDS, Act, Played
from cowtrace.model import FaultKind
from cowtrace.numbers import MISSING, duration, size
from cowtrace.terminal import plain
from cowtrace.terminal.processes import view
from cowtrace.terminal.screen import LiveScreen, PlainScreen
from cowtrace.text import COLUMNS

MEANINGS = {
    FaultKind.COPIED: "was shared: bytes went to a new page",
    FaultKind.ZERO_FILLED: "was only read before: a page of zeroes",
    FaultKind.REUSED: "no longer shared: only marked writable",
    FaultKind.SHARED: "shared on purpose: never copied",
}
STYLES = {"copied": "bold red", "zero-filled": "cyan", "reused": "bold green", "shared": "blue"}


class Presenter:
    """Presents the demo on one stream. A context manager."""

    def __init__(self, stream: TextIO, *, live: bool) -> None:
        self._screen = LiveScreen(stream, space_above=True) if live else None
        self._stream = stream

    def __enter__(self) -> Presenter:
        """Write the question, and start the live table."""
        self._say(Text(narration.OPENING))
        self._say(Text())
        if self._screen:
            self._screen.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._screen:
            self._screen.__exit__()

    def announce(self, number: int, act: Act, pages: int) -> None:
        """Write what the next act is."""
        self._say(Text(f"{number}. {narration.announce(act, pages)}", style="bold"))

    def describe(self, played: Played) -> None:
        """Write what was observed in the act."""
        text = Text(narration.describe(played))
        for word, style in STYLES.items():
            text.highlight_regex(rf"\b{word} (\d[\d,]*|-)", style)
        self._say(text, indent=3)

    def show(self, frame: Frame, *, final: bool = False) -> None:
        """Draw the table as it is now; a pipe gets only the final one."""
        if self._screen:
            self._screen.show(view(frame))
        elif final:
            self._say(Text())
            PlainScreen(self._stream).show(view(frame))

    def close(self, story: Sequence[Played], last: Frame) -> None:
        """Write the summary below the last table."""
        now = last.snapshot
        self._say(Text())
        self._say(Text(f"Kernel {now.kernel}, pages of {now.page_bytes:,} bytes:", style="bold"))
        self._write(summary_table(story))
        again = sum(played.answer.again_ns for played in story)
        pages = sum(played.answer.pages for played in story if played.answer.again_ns)
        if pages:
            self._say(Text(f"A write that does not fault takes {duration(again / pages)}."))
        self._say(Text())
        self._say(Text(narration.conclusion(story)))
        self._say(Text(narration.evidence(story, now.completeness.lost)))

    def _say(self, text: Text, indent: int = 0) -> None:
        self._write(Padding(text, (0, 0, 0, indent)))

    def _write(self, what: Padding | Table) -> None:
        if self._screen:
            console = self._screen.console
            console.print(what, width=min(COLUMNS, console.width))
        else:
            plain.write(self._stream, what)


def summary_table(story: Sequence[Played]) -> Table:
    """Pages, bytes copied and time a page, by kind, with what the kind means."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for header in ("", "PAGES", "BYTES COPIED", "EACH"):
        table.add_column(header, justify="right" if header else "left", no_wrap=True)
    table.add_column("THE PAGE")
    for kind in KINDS:
        seen = [count for played in story if (count := played.traced[kind]) is not None]
        copied = sum(seen) * story[0].page_bytes if kind is FaultKind.COPIED else 0
        each = narration.nanoseconds(story, kind)
        table.add_row(
            Text(kind.label, style=STYLES[kind.label]),
            f"{sum(seen):,}" if seen else MISSING,
            size(copied, " ") if seen else MISSING,
            duration(each) if each is not None else MISSING,
            MEANINGS[kind],
        )
    return table
