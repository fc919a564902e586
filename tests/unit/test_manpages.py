"""Man pages and completion, as man and the shells themselves take them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cowtrace import cli
from cowtrace.cli import manpages
from cowtrace.cli.completion import SHELLS

PAGES = dict(manpages.pages())
# What each shell runs to ask for what may follow `cowtrace fo`.
ASK = {
    "bash": "source complete; COMP_WORDS=(cowtrace fo); COMP_CWORD=1; COMPREPLY=(); "
    '_cowtrace_completion cowtrace; echo "${COMPREPLY[@]}"',
    "fish": "source complete; complete --do-complete 'cowtrace fo'",
}


REQUESTS = {
    ".TH", ".SH", ".SS", ".TP", ".IP", ".B", ".BR", ".PP", ".in", ".nf", ".fi", ".nh",
}  # fmt: skip


def need(program: str, package: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: apt install {package}")


def test_every_command_has_a_page() -> None:
    assert {f"cowtrace-{name}.1" for name in cli.COMMANDS} < PAGES.keys()
    assert {"cowtrace.1", "cowtrace-vm-run.1", "cowtrace-export-rules.1"} < PAGES.keys()


@pytest.mark.parametrize("name", PAGES)
def test_man_shows_it_without_complaint(tmp_path: Path, name: str) -> None:
    need("man", "man-db")
    (tmp_path / name).write_text(PAGES[name])
    shown = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", tmp_path / name],
        capture_output=True, text=True, env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    if "No such file or directory" in shown.stderr:
        pytest.skip("man has no groff here: apt install groff-base")
    assert (shown.returncode, shown.stderr) == (0, "")
    of_commands = ("SYNOPSIS", "DESCRIPTION", "OPTIONS") if name.endswith(".1") else ()
    for title in ("NAME", *of_commands, "SEE ALSO"):
        assert f"\n{title}\n" in shown.stdout
    indexed = subprocess.run(["lexgrog", tmp_path / name], capture_output=True, text=True)
    assert f"{name[:-2]} - " in indexed.stdout


def test_it_says_what_help_says() -> None:
    page = PAGES["cowtrace-forks.1"].replace("\\-", "-").replace("\\&", "")
    assert isinstance(cli.main, click.Group)  # which older releases of click do not say
    command = cli.main.get_command(click.Context(cli.main), "forks")
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[-1] in page
            assert (parameter.help or "") in page
    assert "SHARED   memory that parent and child shared at the fork" in page
    assert "FORK     how long the call took" in page
    assert "sudo cowtrace forks -p $(pidof redis-server)\n" in page


def test_what_a_page_says_is_no_request() -> None:
    assert manpages._text(".SH x\\n-p\n.y") == "\\&.SH x\\en\\-p .y"
    for page in PAGES.values():
        for line in page.splitlines():
            if line.startswith((".", "'")):
                assert line.split()[0] in REQUESTS


def test_they_are_written(tmp_path: Path) -> None:
    manpages.write(tmp_path / "made")
    made = {f"{path.parent.name}/{path.name}" for path in (tmp_path / "made").glob("*/*")}
    assert made == {f"man{name[-1]}/{name}" for name in PAGES}
    assert {"man1/cowtrace-verify.1", "man7/cowtrace-verify.7"} < made


def complete(shell: str, words: str) -> list[str]:
    """What the command line answers a shell's completion."""
    last = words.split(" ")[-1] if shell == "fish" else str(len(words.split(" ")) - 1)
    ended = subprocess.run(
        [sys.executable, "-c", "from cowtrace.cli import main; main(prog_name='cowtrace')"],
        env={**os.environ, "_COWTRACE_COMPLETE": f"{shell}_complete", "COMP_WORDS": words,
             "COMP_CWORD": last},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return ended.stdout.splitlines()


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_and_options_complete(shell: str) -> None:
    assert any("forks" in line for line in complete(shell, "cowtrace fo"))
    assert not any("maps" in line for line in complete(shell, "cowtrace fo"))
    assert any("--addresses" in line for line in complete(shell, "cowtrace maps --add"))


@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_reads_it(tmp_path: Path, shell: str) -> None:
    need(shell, shell)
    printed = CliRunner().invoke(cli.main, ["completion", shell])
    assert printed.exit_code == 0
    (tmp_path / "complete").write_text(printed.output)
    checked = subprocess.run([shell, "-n", "complete"], cwd=tmp_path, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, b"")
    if shell not in ASK:
        return
    program = tmp_path / "cowtrace"
    program.write_text(
        f"#!{sys.executable}\nfrom cowtrace.cli import main\nmain(prog_name='cowtrace')\n"
    )
    program.chmod(0o755)
    asked = subprocess.run(
        [shell, "-c", ASK[shell]], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path),
             "PYTHONPATH": str(Path(cli.__file__).parents[2])},
    )  # fmt: skip
    assert asked.stdout.split()[0] == "forks", asked.stderr
    assert "maps" not in asked.stdout


def test_to_complete_a_command_imports_none() -> None:
    code = (
        "import sys\nfrom cowtrace.cli import main\n"
        "found = main.shell_complete(__import__('click').Context(main), '')\n"
        "print(len(found), 'cowtrace.cli.top' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [str(len(cli.COMMANDS)), "False"]
