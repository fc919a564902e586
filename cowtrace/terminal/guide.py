"""Draw a page of the guide, and the list of pages.

rich's own Markdown draws no tables before release 13.4 (Debian 12 has 13.3), and breaks the lines
of program output that are 80 columns wide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from markdown_it.tree import SyntaxTreeNode
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cowtrace.guide import Page
from cowtrace.text import COLUMNS

_INDENT = 4
_NAME = 36  # cells of a first column that is not broken
_STYLES = {"code_inline": "cyan", "strong": "bold", "em": "italic"}


def draw(page: Page) -> RenderableType:
    """The whole page; a table is as wide as the console."""
    title = Text(page.title, style="bold underline")
    *body, _ = _blocks(page.tree("{text} (`cowtrace help {topic}`)").children)
    return Group(title, Text(page.summary, style="italic"), Text(), *body)


def draw_list(pages: Iterable[Page]) -> RenderableType:
    """One line a page."""
    table = Table.grid(padding=(0, 2))
    for page in pages:
        table.add_row(Text(page.topic, style="bold"), page.summary)
    return table


def table_of(node: SyntaxTreeNode) -> Table:
    """A Markdown table, aligned as in the Markdown."""
    head, *body = ([inline(cell.children[0]) for cell in row.children] for row in _rows(node))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for at, cell in enumerate(_rows(node)[0].children):
        right = "right" in str(cell.attrs.get("style"))
        widest = max(row[at].cell_len for row in body)
        table.add_column(
            head[at],
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=at == 0 and widest <= _NAME,  # a name can be copied
        )
    for row in body:
        table.add_row(*row)
    return table


def _rows(table: SyntaxTreeNode) -> list[SyntaxTreeNode]:
    return [row for part in table.children for row in part.children]


def inline(node: SyntaxTreeNode, style: str = "") -> Text:
    """The words of a paragraph, a heading or a cell."""
    text = Text(style=style)
    for child in node.children:
        if child.type == "softbreak":
            text.append(" ")
        elif child.children:
            text.append_text(inline(child, _STYLES.get(child.type, "")))
        else:
            text.append(child.content, _STYLES.get(child.type))
    return text


def _blocks(nodes: Iterable[SyntaxTreeNode]) -> Iterator[RenderableType]:
    """Each block, and an empty line after it."""
    for node in nodes:
        if node.type == "heading":
            yield inline(node.children[0], "bold")
        elif node.type == "paragraph":
            yield inline(node.children[0])
        elif node.type == "table":
            yield table_of(node)
        elif node.type in ("bullet_list", "ordered_list"):
            yield _list(node)
        else:  # program text: a line is a line
            code = Text(node.content.rstrip("\n"), style="cyan", no_wrap=True, overflow="ignore")
            room = COLUMNS - max(line.cell_len for line in code.split())
            yield Padding(code, (0, 0, 0, max(0, min(_INDENT, room))))
        yield Text()


def _list(node: SyntaxTreeNode) -> Table:
    items = Table.grid(padding=(0, 1))
    for number, item in enumerate(node.children, 1):
        mark = f"{number}." if node.type == "ordered_list" else "-"
        *blocks, _ = _blocks(item.children)
        items.add_row(mark, Group(*blocks))
    return items
