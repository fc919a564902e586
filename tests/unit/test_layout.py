"""The rules that the layout of the project keeps: see each test."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "cowtrace"
TOP_LEVEL = {
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "bpf",
    "cowtrace",
    "pyproject.toml",
    "tests",
    "vagrant",
}  # and names that begin with a dot
# Where packages are fetched from is the machine's own configuration, never the project's.
REGISTRY = re.compile(
    rb"pypi\.org|pythonhosted\.org|\b(deb|ftp\w*|security|snapshot|archive)\.debian\.org"
    rb"|\w+\.ubuntu\.com|npmjs\.(org|com)|vagrantcloud\.com|vagrantup\.com",
    re.IGNORECASE,
)


def tracked() -> list[Path]:
    """Files under version control, relative to the project."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip(f"not a git checkout: {listing.stderr.strip()}")
    return [Path(name) for name in listing.stdout.split("\0") if name]


def imports(path: Path) -> Iterator[str]:
    """Top-level names of all that a module imports, at its head or inside a function."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def importers(name: str) -> set[str]:
    """Modules of the package that import `name`: `tracer/loader.py`."""
    return {
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if name in imports(path)
    }


def test_nothing_new_at_the_top_level() -> None:
    names = {path.parts[0] for path in tracked()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_only_the_compiler_imports_bcc() -> None:
    assert importers("bcc") == {"tracer/compiler.py"}


@pytest.mark.parametrize("library", ["bcc", "click"])
def test_what_is_downstream_of_the_tracer_needs_no(library: str) -> None:
    downstream = ("model", "views/", "exporters/")
    assert {path for path in importers(library) if path.startswith(downstream)} == set()


def test_no_registry_is_named() -> None:
    naming = {
        str(path): found.group()
        for path in tracked()
        if (ROOT / path).is_file() and (found := REGISTRY.search((ROOT / path).read_bytes()))
    }
    assert naming == {}


def test_bpf_sources_carry_their_licence() -> None:
    without = {
        path.name
        for path in (ROOT / "bpf").rglob("*.[ch]")
        if b"SPDX-License-Identifier: GPL-2.0-only" not in path.read_bytes().partition(b"\n")[0]
    }
    assert without == set()
