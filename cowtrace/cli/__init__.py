"""Define `main`, a click group that imports a command only when it is called."""

from __future__ import annotations

import contextlib
import keyword
import os
import signal
import sys
from importlib import import_module
from types import ModuleType

import click
from click.shell_completion import CompletionItem

from cowtrace import __version__, errors

# Every command and its line in --help, sorted, so that --help imports none of them.
COMMANDS = {
    "completion": "Print the script that completes commands and options in a shell.",
    "demo": "Show live what fork shares and what a write copies.",
    "diff": "Compare two recordings: did my fix help?",
    "doctor": "Show what this kernel offers and which probe plan can run.",
    "export": "Export metrics to Prometheus or OpenTelemetry; print rules, a dashboard, a schema.",
    "forks": "Show what each fork shared, how much is copied, and what may come.",
    "help": "Show a page of the guide, or list the pages.",
    "latency": "Show how long faults take, by kind and side of the fork, live.",
    "maps": "Show in which mappings pages are copied: heap, stack, files, live.",
    "objects": "Show what was written in CPython: reference counts, GC headers, data.",
    "private": "Show where private memory came from, and where it went.",
    "record": "Record a trace in a file, to report on it and to compare it later.",
    "report": "Answer twelve questions from a recording, as text or as an HTML page.",
    "run": "Run a command; count what it and its descendants copied.",
    "shared": "Show who shares how much memory with whom, now.",
    "snoop": "Show each copy-on-write fault as it happens.",
    "stacks": "Show which code copies pages: functions, or a flame graph.",
    "top": "Show who copies pages now, over the whole system, live.",
    "try": "Run variants of a command in turn: does the remedy work, or is it noise?",
    "verify": "Check common claims about fork and copy-on-write on this kernel.",
    "vm": "Build and run the test VMs, one for each kernel.",
    "watch": "Wait until a fork threatens to need more memory than is left.",
    "workload": "Run a workload whose counts are known; compare them with the trace.",
}

EXIT_CODES = f"""\b
Exit codes:
  0    done
  {errors.EXIT_FAILURE}    stderr says what failed
  {errors.EXIT_USAGE}    an option or argument is wrong
  {errors.EXIT_NO_PLAN}    no probe plan can run on this kernel or with these privileges
  {errors.EXIT_MISMATCH}    a workload or check is not as expected; verify --compare: they differ
  {errors.EXIT_NO_VM}    the test VM cannot be started: no QEMU, no image, no room
  {errors.EXIT_NO_ROOM}    record: the disk is full; the recording up to then is kept
  {errors.EXIT_TIMEOUT}  the time limit ended the command; watch: it did not happen by then
  {errors.EXIT_UNTESTABLE}  verify --kernel PATH: this kernel cannot be tested
  {errors.EXIT_NOT_EXECUTABLE}  run: the command cannot be executed
  {errors.EXIT_NOT_FOUND}  run: the command was not found
  130  interrupted; top ends with its last table and 0
  Otherwise run exits with its command's code, 128 + N if signal N ended it.

\b
Example:
  sudo cowtrace top
"""


def _imported(name: str) -> ModuleType:
    """Import a module. Ctrl-C meanwhile ends the process: an exception would leave a traceback."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        return import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return import_module(name)
    finally:
        signal.signal(signal.SIGINT, before)


class LazyGroup(click.Group):
    """Finds its commands in cowtrace.cli.NAME, and turns expected failures into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command = getattr(_imported(f"cowtrace.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands, without importing any, and the options of this group."""
        found = [
            CompletionItem(name, help=words)
            for name, words in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> object:
        try:
            result: object = super().invoke(ctx)
        except errors.CowtraceError as error:
            click.echo(f"cowtrace: {error}\nHint: {error.hint}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(128 + signal.SIGINT)
        except BrokenPipeError:  # `cowtrace top | head`
            _forget_stdout()
            ctx.exit(128 + signal.SIGPIPE)
        return result


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, prog_name="cowtrace")
def main() -> None:
    """Show which write faults really copied a page, and which only re-marked it writable.

    \b
    copied       the page was shared: its bytes are now in a new page
    zero-filled  first write to memory that was only read so far: a page of zeroes
    reused       the page is no longer shared: only marked writable again
    shared       memory that is shared on purpose: made writable, never copied
    """
    # Names of processes can contain characters that the locale cannot print.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _forget_stdout() -> None:
    """Send the interpreter's last flush to /dev/null: nobody reads stdout any more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
