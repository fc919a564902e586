"""`cowtrace help`: show the pages of the guide."""

from __future__ import annotations

import sys
from difflib import get_close_matches

import click
from click.shell_completion import CompletionItem

from cowtrace import guide
from cowtrace.errors import EXIT_USAGE, CowtraceError

_WIDEST = 100  # longer lines are harder to read


def _complete(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    return [
        CompletionItem(topic, help=guide.page(topic).summary)
        for topic in guide.topics()
        if topic.startswith(begun)
    ]


@click.command(
    name="help", epilog="\b\nExamples:\n  cowtrace help\n  cowtrace help redis | grep -A 3 'To do'"
)
@click.argument("topic", required=False, shell_complete=_complete)
def help(topic: str | None) -> None:
    """Show a page of the guide, or list the pages.

    On a terminal, a pager ($PAGER) shows a page that is longer than the screen. Options and
    examples of a command: cowtrace COMMAND --help.
    """
    from cowtrace.terminal.guide import draw, draw_list
    from cowtrace.terminal.screen import console, show

    if topic is None:
        show(draw_list(map(guide.page, guide.topics())))
        click.echo("\nA page: cowtrace help TOPIC. A command: cowtrace COMMAND --help.")
        return
    if topic not in guide.topics():
        raise CowtraceError(
            f"the guide has no page '{topic}'", hint=_hint(topic), exit_code=EXIT_USAGE
        )
    page = draw(guide.page(topic))
    screen = console(sys.stdout)
    with screen.capture() as captured:
        screen.print(page, width=min(screen.width, _WIDEST))
    if not sys.stdout.isatty():
        show(page)
    elif captured.get().count("\n") < screen.height:
        sys.stdout.write(captured.get())
    else:
        click.echo_via_pager(captured.get(), color=True)


def _hint(topic: str) -> str:
    from cowtrace.cli import COMMANDS

    if topic in COMMANDS:
        return f"run: cowtrace {topic} --help"
    near = get_close_matches(topic, guide.topics())
    return f"nearest: {', '.join(near)}" if near else "run: cowtrace help"
