"""Remedies, as a Python program that forks, or any child, gets them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cowtrace.errors import CowtraceError
from cowtrace.remedies import Hooks, Remedies, inherited, parse, unapplied

FORKS = """
import atexit, gc, os, sys
class Last:
    def __del__(self):
        os.write(1, b"finalized ")
last = Last()
atexit.register(os.write, 1, b"atexit ")
pid = os.fork()
if not pid:
    os.write(1, b"frozen=%d gc=%d " % (gc.get_freeze_count() > 0, gc.isenabled()))
    print("buffered", end=" ")
    {end}
atexit.unregister(os.write)
del last.__class__.__del__
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}


def run(folder: Path, names: str, end: str = "sys.exit(0)", *options: str) -> tuple[int, str]:
    """The child's exit code, and what it writes."""
    remedies = parse(names) if names else Remedies()
    hooks = Hooks(folder, [parse("gc-freeze,os-exit"), remedies])
    variables = hooks.environment(remedies, folder / "applied")
    ended = subprocess.run(
        [sys.executable, *options, "-c", FORKS.replace("{end}", end)],
        env={**ENVIRONMENT, **variables},
        capture_output=True,
        text=True,
    )
    assert not ended.stderr or "Error" not in ended.stderr, ended.stderr
    return ended.returncode, ended.stdout


def test_without_a_remedy_a_child_ends_as_ever(tmp_path: Path) -> None:
    assert run(tmp_path, "") == (0, "frozen=0 gc=1 atexit buffered finalized ")


def test_gc_freeze_freezes_before_the_fork(tmp_path: Path) -> None:
    assert run(tmp_path, "gc-freeze")[1].startswith("frozen=1 gc=1 ")
    assert unapplied(parse("gc-freeze"), tmp_path / "applied") is None


def test_no_gc_in_child_disables_the_collector(tmp_path: Path) -> None:
    assert run(tmp_path, "no-gc-in-child")[1].startswith("frozen=0 gc=0 ")


@pytest.mark.parametrize(
    ("end", "code"),
    [("sys.exit(0)", 0), ("sys.exit(3)", 3), ("sys.exit('words')", 1), ("sys.exit()", 0),
     ("1 / 0", 1)],
)  # fmt: skip
def test_os_exit_skips_the_end_of_the_interpreter_only(tmp_path: Path, end: str, code: int) -> None:
    hooks = Hooks(tmp_path, [parse("os-exit")])
    variables = hooks.environment(parse("os-exit"), tmp_path / "applied")
    ended = subprocess.run(
        [sys.executable, "-c", FORKS.replace("{end}", end)],
        env={**ENVIRONMENT, **variables},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (code, "frozen=0 gc=1 atexit buffered ")


def test_remedies_go_together(tmp_path: Path) -> None:
    found = run(tmp_path, "gc-freeze,no-gc-in-child,os-exit")
    assert found == (0, "frozen=1 gc=0 atexit buffered ")


def test_what_ignores_pythonpath_is_reported(tmp_path: Path) -> None:
    assert run(tmp_path, "gc-freeze", "sys.exit(0)", "-E")[1].startswith("frozen=0")
    assert "never applied" in (unapplied(parse("gc-freeze"), tmp_path / "applied") or "")
    assert unapplied(parse("thp=never"), tmp_path / "no such file") is None


def test_the_hidden_sitecustomize_runs_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "sitecustomize.py").write_text("import os; os.write(1, b'theirs ')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "theirs"))
    assert run(tmp_path, "gc-freeze")[1].startswith("theirs frozen=1 ")


def test_all_variants_have_an_environment_of_the_same_size(tmp_path: Path) -> None:
    chosen = [Remedies(), parse("gc-freeze"), parse("thp=never,no-gc-in-child")]
    hooks = Hooks(tmp_path, chosen)
    sizes = {
        sum(map(len, hooks.environment(each, tmp_path / f"{at}.applied").values()))
        for at, each in enumerate(chosen)
    }
    assert len(sizes) == 1


def test_malloc_arena_max_is_a_variable(tmp_path: Path) -> None:
    chosen = parse("malloc-arena-max=2")
    found = Hooks(tmp_path, [chosen]).environment(chosen, tmp_path / "applied")
    assert found == {"MALLOC_ARENA_MAX": "2"}


def thp_enabled() -> str:
    shown = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout
    found = re.search(r"^THP_enabled:\t(\d)", shown, re.M)
    return found[1] if found else pytest.skip("this kernel's /proc/PID/status has no THP_enabled")


def test_thp_never_is_inherited_and_taken_back() -> None:
    before = thp_enabled()
    with inherited(parse("thp=never")):
        assert thp_enabled() == "0"
    assert thp_enabled() == before
    with inherited(parse("gc-freeze")):
        assert thp_enabled() == before


@pytest.mark.parametrize("words", ["gc-freez", "malloc-arena-max=0", "", "thp=never,\x1b"])
def test_an_unknown_remedy_is_two_lines(words: str) -> None:
    with pytest.raises(CowtraceError, match="no remedy is named") as raised:
        parse(words)
    assert "they are gc-freeze, " in raised.value.hint
    assert "\x1b" not in str(raised.value)
