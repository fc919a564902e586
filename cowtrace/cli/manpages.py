"""Write the man pages of a package: `python3 -m cowtrace.cli.manpages FOLDER`.

FOLDER/man1 has a page for cowtrace and for each command, made of what --help says. click-man does
not find the commands of a group that imports them late. FOLDER/man7 has a page for each topic of
the guide.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from markdown_it.tree import SyntaxTreeNode
from rich.cells import cell_len

from cowtrace import __version__, guide
from cowtrace.cli import COMMANDS, main
from cowtrace.terminal.guide import table_of
from cowtrace.terminal.plain import lines

_WIDTH = 72  # of text that man indents on 80 columns
_FONTS = {"code_inline": "B", "strong": "B", "em": "I"}


def pages() -> Iterator[tuple[str, str]]:
    """Yield the file name and the text, in the language of man(7), of each page."""
    with click.Context(main, info_name="cowtrace") as context:
        yield from _pages(main, context)
    for topic in guide.topics():
        page = guide.page(topic)
        yield f"cowtrace-{topic}.7", "\n".join(_topic(page)) + "\n"


def _pages(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    name = context.command_path.replace(" ", "-")
    yield f"{name}.1", "\n".join(_page(command, context, name)) + "\n"
    if isinstance(command, click.Group):
        for subcommand in command.list_commands(context):
            found = command.get_command(context, subcommand)
            assert found is not None, subcommand
            with click.Context(found, info_name=subcommand, parent=context) as inner:
                yield from _pages(found, inner)


def _page(command: click.Command, context: click.Context, name: str) -> Iterator[str]:
    words = inspect.cleandoc(command.help or "")
    yield from _head(name, 1, words.split("\n\n")[0].replace("\n", " "))
    yield ".SH SYNOPSIS"
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f".B {_text(context.command_path)}\n{_text(pieces)}"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(words)
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        yield from _commands(command, context)
    yield ".SH OPTIONS"
    yield from _options(command, context)
    yield from _epilog(command.epilog or "")
    yield ".SH SEE ALSO"
    others = ["cowtrace (1)"]
    if name == "cowtrace":
        others = [f"cowtrace-{command} (1)" for command in sorted(COMMANDS)]
        others += [f"cowtrace-{topic} (7)" for topic in guide.topics()]
    yield " ,\n".join(f".BR {each}" for each in others)


def _head(name: str, section: int, summary: str) -> Iterator[str]:
    yield f'.TH "{name.upper()}" {section} "" "cowtrace {__version__}" "cowtrace"'
    yield ".SH NAME"
    yield f"{_text(name)} \\- {_text(summary[0].lower() + summary[1:].rstrip('.'))}"


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        words = COMMANDS[name] if group is main else command.get_short_help_str(200)
        yield f".TP\n.B {_text(name)}\n{_text(words)}"


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and record[1]:  # arguments are in the synopsis
            yield f".TP\n.B {_text(record[0])}\n{_text(record[1])}"


def _epilog(epilog: str) -> Iterator[str]:
    """A part begins with a title and a colon: Examples, Exit codes."""
    for part in filter(None, epilog.split("\b\n")):
        title, _, body = part.rstrip().partition("\n")
        head, _, rest = title.partition(":")
        yield f".SH {_text('EXIT STATUS' if head == 'Exit codes' else 'EXAMPLES')}"
        if rest.strip():
            yield from _paragraphs(f"{rest.strip().capitalize()}:")
        yield from _verbatim(body.split("\n"))


def _paragraphs(text: str) -> Iterator[str]:
    for at, paragraph in enumerate(text.split("\n\n")):
        if at:
            yield ".PP"
        lines = paragraph.strip("\n").split("\n")
        if lines[0].strip() == "\b":
            yield from _verbatim(lines[1:])
        else:
            yield _text(" ".join(line.strip() for line in lines))


def _verbatim(lines: list[str]) -> Iterator[str]:
    wide = max(map(cell_len, lines)) > _WIDTH
    yield ".in 0\n.nf" if wide else ".nf"
    yield from map(_text, lines)
    yield ".fi\n.in" if wide else ".fi"


def _topic(page: guide.Page) -> Iterator[str]:
    yield from _head(f"cowtrace-{page.topic}", 7, page.summary)
    yield ".nh"  # a name that is broken cannot be copied
    tree = page.tree("{text} (**cowtrace-{topic}**(7))")
    if tree.children[0].type != "heading":
        yield ".SH DESCRIPTION"
    for node in tree.children:
        yield from _block(node)
    yield ".SH SEE ALSO\n.BR cowtrace (1)"


def _block(node: SyntaxTreeNode) -> Iterator[str]:
    if node.type == "heading":
        yield f".{'SH' if node.tag == 'h2' else 'SS'} {_inline(node.children[0])}"
    elif node.type == "paragraph":
        yield f".PP\n{_inline(node.children[0])}"
    elif node.type == "table":  # drawn here: a page need not ask for tbl
        yield ".PP"
        yield from _verbatim(lines(table_of(node), _WIDTH))
    elif node.type in ("bullet_list", "ordered_list"):
        for number, item in enumerate(node.children, 1):
            yield f'.IP "{number}." 4' if node.type == "ordered_list" else r".IP \(bu 2"
            yield _inline(item.children[0].children[0])
    else:
        yield ".PP"
        yield from _verbatim(node.content.rstrip("\n").split("\n"))


def _inline(node: SyntaxTreeNode) -> str:
    def words(node: SyntaxTreeNode) -> Iterator[str]:
        for child in node.children:
            text = "".join(words(child)) if child.children else _escaped(child.content or " ")
            font = _FONTS.get(child.type)
            yield f"\\f{font}{text}\\fR" if font else text

    return _no_request("".join(words(node)))


def _text(raw: str) -> str:
    """Text without requests or escapes."""
    return _no_request(_escaped(raw))


def _escaped(raw: str) -> str:
    return raw.replace("\\", "\\e").replace("-", "\\-").replace("\n", " ")


def _no_request(text: str) -> str:
    return f"\\&{text}" if text[:1] in (".", "'") else text


def write(folder: Path) -> None:
    """Write each page to the folder of its section, `man1` or `man7`; create the folders."""
    for name, text in pages():
        path = folder / f"man{name[-1]}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
