"""Check that each test which `make test` spreads over its kernels still runs on one of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from system import test_mutations

ROOT = Path(__file__).parents[2]
KERNELS = re.findall(r"^KERNELS \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0]


def spread() -> Iterator[tuple[str, list[str]]]:
    """Each use of the marker: the file and the kernels that it names."""
    for folder in ("system", "applications"):
        for path in (ROOT / "tests" / folder).glob("*.py"):
            nodes = list(ast.walk(ast.parse(path.read_bytes())))
            marks = [n for n in nodes if isinstance(n, ast.Attribute) and n.attr == "spread"]
            calls = {id(n.func): n.args for n in nodes if isinstance(n, ast.Call)}
            for mark in marks:
                yield path.name, [ast.literal_eval(each) for each in calls.get(id(mark), ())]


def test_each_test_that_is_spread_runs_on_one_of_the_kernels() -> None:
    assert f'"{KERNELS}" ] || spread=--spread' in (ROOT / ".ci" / "test").read_text()
    named = list(spread())
    assert named
    assert [each for each in named if set(each[1]) - set(KERNELS.split())] == []
    # On none of them: this machine's kernel proves it.
    files = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    alone = {name for name, kernels in named if not kernels}
    assert alone
    native = re.compile(r"^pytestmark = [^\]]*pytest\.mark\.host\b", re.MULTILINE)
    assert [name for name in alone if not native.search(files[name])] == []
    assert test_mutations.ALL in KERNELS.split()


def test_no_module_skips_as_a_whole_where_a_skip_is_a_failure() -> None:
    """The VM also collects the files for this machine's kernel: there only their tests may skip."""
    skipping = [
        path.name
        for folder in ("system", "applications")
        for path in (ROOT / "tests" / folder).glob("test_*.py")
        if re.search(r"^pytest\.(importorskip|skip)\(", text := path.read_text(), re.MULTILINE)
        and "pytest.mark.vm" not in text
    ]
    assert skipping == []
