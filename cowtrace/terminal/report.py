"""Render a recording and its answers as text of 80 columns."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.text import Text

from cowtrace.analysis.questions import answers, in_words
from cowtrace.analysis.questions.answer import Answer, Quality, copied_bytes
from cowtrace.analysis.questions.speed import pace
from cowtrace.analysis.questions.sums import contained, ending
from cowtrace.numbers import MISSING, count, size
from cowtrace.recording import Recording
from cowtrace.terminal.footer import containers
from cowtrace.text import fit, padded, printable, wrap

_NAME = 33
_WIDTH = 72  # of the lines below an answer
_WHOM, _SPEED = 2, 5  # the numbers of the questions by whom, and how fast
_STYLES = {
    Quality.EXACT: "green",
    Quality.UPPER_BOUND: "yellow",
    Quality.LOWER_BOUND: "bold red",
    Quality.INCOMPLETE: "bold red",
    Quality.ESTIMATE: "cyan",
    Quality.NOT_RECORDED: "dim",
    Quality.NOT_SEEN: "dim",
}


def report_text(recording: Recording, name: str) -> Text:
    """The summary, then the answers."""
    text = Text()
    found = answers(recording)
    text.append(f"{wrap(summary(recording, name))}\n")
    text.append(f"{wrap(in_words(found))}\n")
    text.append(f"{wrap(origin(recording))}\n", style="dim")
    for answer in found:
        text.append("\n")
        for piece, style in _answer(answer):
            text.append(piece, style=style)
        if answer.number == _WHOM:
            inside = contained(recording)
            for line in containers(inside, inside, _WIDTH):
                text.append("    ").append_text(line).append("\n")
        if answer.number == _SPEED and (drawn := pace(recording)):
            text.append(f"    {drawn}\n")
    text.rstrip()
    return text


def summary(recording: Recording, name: str) -> str:
    """What happened, in a sentence or two."""
    processes = len(recording.last.processes)
    forks = len(recording.last.generations)
    words = (
        f"{printable(name)}: {_seconds(recording.seconds)}, {_number(processes, 'process', 'es')}"
    )
    if "generation" in recording.header.details:
        words += f", {_number(forks, 'fork')}"
    words += f": {size(copied_bytes(recording), ' ')} copied."
    if recording.ended or not recording.closed:
        words += f" {ending(recording)}"
    return words


def origin(recording: Recording) -> str:
    """What was recorded, when, and under which plan and kernel."""
    header = recording.header
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(header.started_unix_ns / 1e9))
    what = f"{fit(printable(header.command), 200)}; " if header.command else ""
    recorded = _seconds(recording.recorded_seconds)
    if recorded != _seconds(recording.seconds):
        when += f", recorded for {recorded}"
    return (
        f"{what}{when}; plan {printable(header.plan)}, kernel {printable(header.kernel)}, "
        f"pages of {header.page_bytes:,} bytes"
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f} s"


def _answer(answer: Answer) -> Iterator[tuple[str, str]]:
    yield f"{answer.number:2}. {answer.question}\n", "bold"
    for measure in answer.measures:
        faults = "" if measure.faults is None else f"{count(measure.faults)} faults"
        value = measure.text if measure.value is not None else MISSING
        yield f"    {padded(measure.name, _NAME)} {value:>10} {faults:>14}  ", ""
        quality = "not seen" if measure.quality is Quality.NOT_SEEN else measure.quality.value
        yield f"{quality}\n", _STYLES[measure.quality]
    if answer.note:
        yield f"{wrap(answer.note, '    ')}\n", "dim"


def _number(number: int, noun: str, plural: str = "s") -> str:
    return f"{number:,} {noun}{plural if number != 1 else ''}"
