"""The command group: lazy, documented, and every expected failure two lines and an exit code."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cowtrace import __version__, cli, errors
from cowtrace.errors import CowtraceError

THERE = [name for name in cli.COMMANDS if importlib.util.find_spec(f"cowtrace.cli.{name}")]


def imported_by(*arguments: str) -> set[str]:
    """Modules that are loaded after the command line has run."""
    code = (
        "import sys\n"
        "from cowtrace.cli import main\n"
        f"try: main({list(arguments)!r})\n"
        "except SystemExit: pass\n"
        "print('\\n' + ' '.join(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["-h"], ["no-such-command"]])
def test_little_is_imported_without_a_command(arguments: list[str]) -> None:
    loaded = imported_by(*arguments)
    assert "cowtrace.cli" in loaded
    assert not loaded & {"bcc", "rich", "cowtrace.tracer", "cowtrace.cli.top", "cowtrace.model"}


@pytest.mark.parametrize("name", ["top", "run", "demo"])
def test_help_of_a_command_needs_no_bcc(name: str) -> None:
    assert "bcc" not in imported_by(name, "--help")


def test_version() -> None:
    assert (
        CliRunner().invoke(cli.main, ["--version"]).output == f"cowtrace, version {__version__}\n"
    )


def test_help_documents_every_exit_code() -> None:
    shown = CliRunner().invoke(cli.main, ["--help"]).output
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    documented = {line.split()[0] for line in shown.splitlines() if line.split()}
    assert {str(code) for code in codes} <= documented
    assert all(len(line) <= 80 for line in shown.splitlines())


@pytest.mark.parametrize("name", THERE)
def test_a_command_has_an_example_and_the_summary_that_the_group_shows(name: str) -> None:
    assert isinstance(cli.main, click.Group)  # which older releases of click do not say
    command = cli.main.get_command(click.Context(cli.main), name)
    assert command is not None
    shown = CliRunner().invoke(cli.main, [name, "--help"])
    assert shown.exit_code == 0
    if not isinstance(command, click.Group):
        assert "cowtrace " + name in shown.output.partition("Example")[2]
    assert all(len(line) <= 80 for line in shown.output.splitlines())
    assert (command.help or "").split("\n\n")[0].replace("\n", " ") == cli.COMMANDS[name]


def failing(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (CowtraceError("no", hint="yes"), 1, "cowtrace: no\nHint: yes\n"),
        (CowtraceError("n", hint="y", exit_code=3), 3, "cowtrace: n\nHint: y\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
    ],
)  # fmt: skip
def test_expected_failures(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, stderr: str
) -> None:
    monkeypatch.setattr(cli, "_forget_stdout", lambda: None)
    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: failing(error))
    result = CliRunner().invoke(cli.main, ["top"])
    assert (result.exit_code, result.stderr, result.stdout) == (code, stderr, "")


def test_head_gets_its_lines_and_no_complaint() -> None:
    faked = str(importlib.util.find_spec("faked").origin)  # type: ignore[union-attr]
    pipe = subprocess.Popen(
        [sys.executable, faked, "top", "0.05", "100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert pipe.stdout is not None
    assert pipe.stderr is not None
    assert pipe.stdout.readline().split()[0] == "PID"
    pipe.stdout.close()
    assert pipe.stderr.read() == ""
    assert pipe.wait(timeout=30) == 141
    pipe.stderr.close()
