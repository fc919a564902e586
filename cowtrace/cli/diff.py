"""`cowtrace diff`: compare two recordings: did my fix help?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from cowtrace.analysis.questions.compare import compare
from cowtrace.cli.options import csv_option, json_option
from cowtrace.machine.csv import CsvLines
from cowtrace.recording.reader import read
from cowtrace.terminal import diff as view
from cowtrace.terminal.screen import show
from cowtrace.text import printable


@click.command(epilog="\b\nExample:\n  cowtrace diff before.cow after.cow")
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@json_option
@csv_option
def diff(before: str, after: str, as_json: bool, as_csv: bool) -> None:
    """Compare two recordings: did my fix help?

    The first line is the answer. Then come reasons not to compare the two, if there are any,
    and each question's numbers: before, after, and the change.
    """
    names = [printable(Path(each).name) for each in (before, after)]
    if names[0] == names[1]:
        names = [printable(before), printable(after)]
    found = compare(read(Path(before)), read(Path(after)), (names[0], names[1]))
    if as_json:
        click.echo(json.dumps(view.as_object(found)))
    elif as_csv:
        CsvLines(sys.stdout).answers(view.as_object(found)["questions"])
    else:
        show(view.diff(found))
