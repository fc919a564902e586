"""`cowtrace diff`: compare two recordings: did my fix help?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from cowtrace.analysis.questions.compare import compare
from cowtrace.cli.options import Form, form_options
from cowtrace.machine import question_objects
from cowtrace.machine.csv import CsvLines
from cowtrace.recording.reader import read
from cowtrace.terminal.diff import diff_text
from cowtrace.terminal.screen import show
from cowtrace.text import printable


@click.command(epilog="\b\nExample:\n  cowtrace diff before.cow after.cow")
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@form_options
def diff(before: str, after: str, form: Form) -> None:
    """Compare two recordings: did my fix help?

    The first line is the answer. Then come reasons not to compare the two, if there are any,
    and each question's numbers: before, after, and the change.
    """
    names = [printable(Path(each).name) for each in (before, after)]
    if names[0] == names[1]:
        names = [printable(before), printable(after)]
    found = compare(read(Path(before)), read(Path(after)), (names[0], names[1]))
    if form == "json":
        click.echo(json.dumps(question_objects.diff(found)))
    elif form == "csv":
        CsvLines(sys.stdout).answers(question_objects.diff(found)["questions"])
    else:
        show(diff_text(found))
