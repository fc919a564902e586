"""Read the pages of the guide: Markdown files beside this one, one topic each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

FOLDER = Path(__file__).parent
_LINK = re.compile(r"\[([^]]*)\]\(([a-z-]+)\.md(?:#[\w-]+)?\)")


@dataclass(frozen=True, slots=True)
class Page:
    """One topic. Its file begins with two lines: `# ` and the title, then the summary."""

    topic: str
    title: str
    summary: str
    text: str  # Markdown, without these two lines

    def tree(self, link: str) -> SyntaxTreeNode:
        """The text's blocks. A link to another page becomes `link`, with text and topic in it."""
        text = _LINK.sub(lambda found: link.format(text=found[1], topic=found[2]), self.text)
        return SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(text))


def topics() -> list[str]:
    """The names of all pages, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.md"))


def page(topic: str) -> Page:
    """The page of one topic out of `topics()`."""
    title, summary, text = (FOLDER / f"{topic}.md").read_text(encoding="utf-8").split("\n", 2)
    return Page(topic, title.removeprefix("# "), summary, text)
