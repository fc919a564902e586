"""The rules that the layout of the project keeps: see each test."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
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


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


@cache
def walked(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(parsed(path)))


def imports(path: Path) -> Iterator[str]:
    """Top-level names of all that a module imports, at its head or inside a function."""
    for node in walked(path):
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


def test_structs_of_maps_are_unpacked_by_one_module() -> None:
    """abi.py; the others make formats or instructions of it."""
    tracer = {name for name in importers("struct") if name.startswith("tracer/")}
    assert tracer == {"tracer/abi.py", "tracer/bpf_maps.py", "tracer/bytecode.py"}


def test_each_c_library_is_loaded_by_one_module() -> None:
    loads = {
        str(path.relative_to(PACKAGE)): re.findall(r"\bCDLL\((.+?)[,)]", path.read_text())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: libraries for name, libraries in loads.items() if libraries} == {
        "libc.py": ["None"],
        "kernel/libbpf.py": ['"libbpf.so.1"'],
        "sandbox.py": ['"libseccomp.so.2"'],
        "tracer/kprobes.py": ['"libbcc_bpf.so.0"'],
        "symbolizer/demangle.py": ['"libstdc++.so.6"'],
        "symbolizer/libdw.py": ['"libdw.so.1"'],
    }


# A room and what it must not import, at a module's head or inside a function.
ARROWS = {
    "analysis": {"rich", "bcc", "click", "tracer", "terminal", "machine", "html", "prometheus"},
    "terminal": {"bcc", "click", "tracer", "machine", "html", "prometheus"},
    "machine": {"rich", "bcc", "click", "tracer", "terminal", "html", "prometheus"},
    "html": {"bcc", "click", "tracer", "machine", "prometheus"},
    "prometheus": {"rich", "bcc", "click", "tracer", "terminal", "machine", "html"},
    "otlp": {"rich", "bcc", "click", "tracer", "terminal", "machine", "html"},
    "recording": {"rich", "bcc", "click", "tracer", "analysis", "terminal", "machine", "html"},
    "tracer": {"rich", "click", "analysis", "terminal", "machine", "html", "recording"},
    "kernel": {"rich", "bcc", "click", "tracer", "analysis", "terminal", "machine", "html"},
}


def modules() -> dict[str, Path]:
    """Each module of the package by its dotted name, `cowtrace.tracer.bpf_maps`."""
    named = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        named[".".join(parts).removesuffix(".__init__")] = path
    return named


def dependencies(path: Path, named: dict[str, Path], *, at_run_time: bool = False) -> set[str]:
    """Full names of the modules that one imports.

    `at_run_time`: without those that only a type checker imports.
    """
    found: set[str] = set()
    rest: list[ast.AST] = [parsed(path)]
    while rest:
        node = rest.pop()
        if at_run_time and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            rest += node.orelse
            continue
        rest += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                found.add(member if member in named else node.module)
    return found


@pytest.mark.parametrize("room", ARROWS)
def test_data_goes_one_way(room: str) -> None:
    named = modules()
    inside = {name for name in named if name.startswith(f"cowtrace.{room}.")}
    assert inside, f"there is no cowtrace/{room}/"
    against = {
        (name, wanted)
        for name in inside
        for wanted in dependencies(named[name], named)
        if wanted.removeprefix("cowtrace.").partition(".")[0] in ARROWS[room]
    }
    assert against == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    named = modules()
    graph = {
        name: dependencies(path, named, at_run_time=True) & named.keys() - {name}
        for name, path in named.items()
    }
    # A command group imports its commands; nothing is told by that circle.
    circles = TopologicalSorter(graph)
    circles.prepare()  # raises CycleError, which names the circle


def test_one_module_starts_python() -> None:
    """Isolated: else it imports from the current folder, which can be another user's."""
    naming = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "sys.executable" in path.read_text()
    }
    assert naming == {"child.py"}


def test_programs_are_found_by_a_path_of_ones_own() -> None:
    """None is started without an environment: see child.environment()."""
    without = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in walked(path)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("subprocess.Popen", "subprocess.run")
        and "env" not in {each.arg for each in node.keywords}
    }
    assert without == set()


def test_the_environment_is_not_changed() -> None:
    """What cowtrace needs in it, such as BCC_KERNEL_SOURCE, is not for the traced command."""
    change = re.compile(r"os\.environ(\[[^]]*\] *=[^=]|\.(update|setdefault))|putenv")
    changing = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if change.search(path.read_text())
    }
    assert changing == set()


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
