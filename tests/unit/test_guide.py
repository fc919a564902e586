"""The README and the guide: what they tell a reader to run or to open is there."""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cowtrace import guide
from cowtrace.cli import COMMANDS, command_user, main, manpages
from cowtrace.text import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "cowtrace"
TEXTS = [ROOT / "README.md", *sorted(guide.FOLDER.glob("*.md"))]
each_text = pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)

FENCE = re.compile(r"^```\n(.*?)^```$", re.M | re.S)
SPAN = re.compile(r"`([^`]+)`")
FILE = re.compile(r"(?:[\w.-]+/)+[\w.-]*")
# A figure that somebody measured: a number and a unit of time, memory or share.
FIGURE = re.compile(r"\d\s?(?:[µnm]?s|[kMG]i?B|%|minutes?|seconds?|instructions)(?![\w])")
# What measured it: a target, a test, or the command whose output is quoted. That a sentence names
# a command of cowtrace is not enough.
MEASURED_BY = re.compile(r"\bmake [a-z]|tests/[\w/]+\.py|^\$ .*\bcowtrace [a-z]", re.M)
HEAD = re.compile(r"[A-Z/]{2,}")


def fences(text: str) -> list[str]:
    return FENCE.findall(text)


def spans(text: str) -> list[str]:
    """Inline code; a span may go over the end of a line."""
    return [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text))]


def lines(block: str) -> Iterator[str]:
    """The command lines of a block: after `$ `, or all of them where the first is one."""
    rows = re.sub(r"\\\n\s*", "", block).splitlines()
    if any(row.startswith("$ ") for row in rows):
        yield from (row[2:] for row in rows if row.startswith("$ "))
    elif re.match(r"(sudo|make|cowtrace|export|\.venv/)", rows[0]):
        yield from rows


def simple_commands(line: str) -> Iterator[list[str]]:
    """Words of each command of a line: those of pipes, lists and quoted scripts too."""
    line = re.sub(r"\$\([^)]*\)", str(os.getpid()), line.removesuffix("..."))
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.commenters = "#"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set(";|&<>()"):
            yield words
            words = ["redirected to"] if set(word) <= set("<>") else []
        else:
            words.append(word)
            if "cowtrace " in word:
                yield from simple_commands(word)


def of_program(name: str, line: str) -> Iterator[list[str]]:
    """Arguments that a line gives to `name`, which may stand behind sudo, or behind `--`."""
    for words in simple_commands(line):
        while words and re.match(r"sudo$|--preserve-env|[A-Z_]+=", words[0]):
            words = words[1:]
        if words[:1] == [name]:
            yield words[1:]
        if "--" in words:
            yield from of_program(name, shlex.join(words[words.index("--") + 1 :]))


def parse(arguments: list[str]) -> None:
    """As click parses it, but nothing is run. Raises click's UsageError."""
    command: click.Command = main
    name, parent = "cowtrace", None
    while True:
        try:
            context = command.make_context(name, list(arguments), parent=parent)
        except click.exceptions.Exit:  # --help
            return
        if not isinstance(command, click.Group):
            return
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        found, inner, arguments = command.resolve_command(context, rest)
        assert found is not None
        assert inner is not None
        name, command, parent = found, inner, context


def values(arguments: list[str]) -> list[str]:
    """The same with placeholders replaced by what they stand for."""
    here = {"PID": str(os.getpid()), "4711": str(os.getpid()), "KIND": "copied", "PATH": "/",
            "SECONDS": "1", "GLOB": "*", "KERNEL": "6.12"}  # fmt: skip
    return [here.get(word, word) for word in arguments]


@each_text
def test_each_command_line_parses(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command_user, "find", lambda name: None)  # a user of the reader's machine
    for name in (
        "before.cow",
        "after.cow",
        "plain.cow",
        "frozen.cow",
        "rec.cow",
        "quick.cow",
        "columns.cow",
    ):
        Path(name).touch()
    text = path.read_text()
    for line in [line for block in fences(text) for line in lines(block)]:
        for arguments in of_program("cowtrace", line):
            try:
                parse(values(arguments))
            except click.UsageError as error:
                pytest.fail(f"{line}: {error.format_message()}")
    for line in spans(text):
        for arguments in of_program("cowtrace", line):
            try:
                parse(values(arguments))
            except click.MissingParameter:
                pass  # a mention of the command: its arguments are elsewhere
            except click.UsageError as error:
                if not (arguments == [] or {"FILE", "TOPIC"} & set(arguments)):
                    pytest.fail(f"`{line}`: {error.format_message()}")


@each_text
def test_each_make_target_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.* ## ", (ROOT / "Makefile").read_text(), re.M))
    text = path.read_text()
    commands = [*spans(text), *(line for block in fences(text) for line in lines(block))]
    for line in commands:
        for arguments in of_program("make", line):
            wanted = {word for word in arguments if "=" not in word}
            assert wanted <= targets, line
            known = set(re.findall(r"^([A-Z]+) +\?=", (ROOT / "Makefile").read_text(), re.M))
            assert {word.partition("=")[0] for word in arguments if "=" in word} <= known, line
            for word in arguments:
                if word.startswith("FILE="):
                    assert (ROOT / word.removeprefix("FILE=")).is_file(), line


@each_text
def test_each_file_that_is_named_exists(path: Path) -> None:
    """In inline code, with a folder that the project or the package has."""
    ours = {entry.name for folder in (ROOT, PACKAGE) for entry in folder.iterdir()}
    named = [span for span in spans(path.read_text()) if FILE.fullmatch(span)]
    missing = [
        name
        for name in named
        if name.partition("/")[0] in ours
        if not (ROOT / name).exists() and not (PACKAGE / name).exists()
    ]
    assert missing == []


@each_text
def test_each_relative_link_resolves(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", FENCE.sub("", path.read_text())):
        file, _, anchor = target.partition("#")
        assert ":" not in target, f"{target} is no relative link"
        assert (path.parent / file).is_file(), target
        heads = re.findall(r"^#+ (.*)$", (path.parent / file).read_text(), re.M) if anchor else []
        assert not anchor or anchor in {re.sub(r"\W+", "-", head.lower()) for head in heads}


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Heading and text of each section, code included; what is quoted in code has no heading."""
    head, body, inside = "", "", False
    for line in text.splitlines():
        inside ^= line.startswith("```")
        if line.startswith("#") and not inside:
            yield head, body
            head, body = line, ""
        else:
            body += line + "\n"
    yield head, body


@each_text
def test_each_figure_names_what_measures_it(path: Path) -> None:
    without = [
        (head, found.group())
        for head, body in sections(path.read_text())
        if (found := FIGURE.search(body)) and not MEASURED_BY.search(body)
    ]
    assert without == []


@cache
def heads() -> set[str]:
    """Words in capitals of the package's short texts: heads of columns, among others."""
    return {
        word
        for source in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(source.read_bytes()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 40
        for word in HEAD.findall(node.value)
    }


@each_text
def test_heads_of_quoted_tables_are_those_that_are_drawn(path: Path) -> None:
    quoted = {
        word
        for block in fences(path.read_text())
        for line in block.splitlines()
        if re.match(r"\s*(?:[A-Z/]{2,}\s+){3}", line)
        for word in HEAD.findall(line)
    }
    assert quoted <= heads()


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 250
    for topic in guide.topics():
        assert f"](cowtrace/guide/{topic}.md)" in text


@pytest.mark.parametrize("topic", guide.topics())
def test_a_page_has_a_title_and_a_summary_of_one_line(topic: str) -> None:
    page = guide.page(topic)
    assert page.title
    assert page.text.startswith("\n")
    widest = max(map(len, guide.topics()))
    assert 0 < len(page.summary) <= COLUMNS - widest - 2
    assert f"| [{topic}](cowtrace/guide/{topic}.md) | {page.summary} |" in TEXTS[0].read_text()


@pytest.mark.parametrize("topic", guide.topics())
def test_code_of_a_page_fits_80_columns(topic: str) -> None:
    for block in fences(guide.page(topic).text):
        assert [line for line in block.splitlines() if len(line) > COLUMNS] == []


def test_help_lists_every_page_on_a_line() -> None:
    shown = CliRunner().invoke(main, ["help"]).stdout.splitlines()
    for topic in guide.topics():
        assert any(re.fullmatch(f"{topic} +{re.escape(guide.page(topic).summary)}", line)
                   for line in shown)  # fmt: skip


@pytest.mark.parametrize("topic", guide.topics())
def test_help_shows_the_whole_page_in_80_columns(topic: str) -> None:
    shown = CliRunner().invoke(main, ["help", topic])
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= COLUMNS
    page = guide.page(topic)
    words = set(re.findall(r"[\w.,-]+", page.text)) - {"-"}
    printed = re.sub(r"\s", "", shown.stdout)
    missing = {word for word in words if word not in printed and not re.fullmatch("-+", word)}
    linked = {word for word in missing if ".md" in word or f"{word}.md" in page.text}
    assert missing == linked


@pytest.mark.parametrize("topic", guide.topics())
def test_a_page_uses_the_markdown_that_help_and_man_draw(topic: str) -> None:
    for node in guide.page(topic).tree("").walk():
        assert node.type in {
            "root", "heading", "paragraph", "inline", "text", "softbreak", "code_inline", "strong",
            "em", "fence", "bullet_list", "ordered_list", "list_item",
            "table", "thead", "tbody", "tr", "th", "td",
        }  # fmt: skip
        assert node.type != "list_item" or len(node.children) == 1


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("reddis", "nearest: redis, recordings"),
        ("postgres", "nearest: postgresql"),
        ("top", "run: cowtrace top --help"),
        ("zzzz", "run: cowtrace help"),
    ],
)
def test_an_unknown_topic_is_two_lines(topic: str, hint: str) -> None:
    shown = CliRunner().invoke(main, ["help", topic])
    assert shown.exit_code == 2
    assert shown.stdout == ""
    assert shown.stderr == f"cowtrace: the guide has no page '{topic}'\nHint: {hint}\n"


def test_every_page_is_a_man_page_that_says_the_same() -> None:
    made = dict(manpages.pages())
    for topic in guide.topics():
        page = made[f"cowtrace-{topic}.7"]
        for block in fences(guide.page(topic).text):
            for line in block.splitlines():
                assert manpages._text(line) in page
    assert "help" in COMMANDS
