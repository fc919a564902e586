"""`cowtrace report`: the answers of a recording, as text, JSON or one page."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from cowtrace.cli.options import Form, form_options
from cowtrace.machine import question_objects
from cowtrace.machine.csv import CsvLines
from cowtrace.recording.reader import read
from cowtrace.terminal.report import report_text
from cowtrace.terminal.screen import show
from cowtrace.text import printable


@click.command(
    epilog="\b\nExamples:\n  cowtrace report before.cow\n"
    "  cowtrace report before.cow --html before.html\n"
    "  cowtrace report before.cow --profile copies.pb.gz --trace forks.json"
)
@click.argument("file", metavar="FILE")
@click.option("--html", "page", metavar="OUT", help="Write one page, with charts, to OUT.")
@click.option("--profile", metavar="OUT",
              help="Write which code copied to OUT, in a format of stacks -o.")  # fmt: skip
@click.option("--trace", metavar="OUT", help="Write a timeline to OUT, for Perfetto.")
@form_options
def report(file: str, page: str | None, profile: str | None, trace: str | None, form: Form) -> None:
    """Answer twelve questions from a recording, as text or as an HTML page.

    Each number is marked as exact, an upper or lower bound, or an estimate from samples. `-`: it
    was not recorded, or the plan does not support it.

    --html writes one page with charts, which needs no network to be read. Writing it needs plotly:
    pip install 'cowtrace[report]'.

    --profile writes for other tools: FILE.pb.gz is opened by pprof, FILE.speedscope.json by
    speedscope. Without stacks in the recording, the process name stands for the code. --trace
    writes when each process lived, forked and copied: JSON that ui.perfetto.dev opens.
    """
    recording = read(Path(file))
    if profile is not None:
        from cowtrace.cli.report_files import profile_file

        profile_file(recording, profile)
    if trace is not None:
        from cowtrace.cli.report_files import trace_file

        trace_file(recording, trace)
    if page is not None:
        from cowtrace.files import private_file
        from cowtrace.html.report import document

        text = document(recording, Path(file).name)
        with private_file(page) as stream:
            stream.write(text)
        click.echo(f"cowtrace: wrote {printable(page)}", err=True)
    elif profile is not None or trace is not None:
        pass
    elif form == "json":
        click.echo(json.dumps(question_objects.report(recording, file)))
    elif form == "csv":
        CsvLines(sys.stdout).answers(question_objects.report(recording, file)["answers"])
    else:
        show(report_text(recording, Path(file).name))
