"""A wheel in a fresh environment has all that cowtrace needs to run, bpf/ and vagrant/ too."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import venv
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import cowtrace
from cowtrace import child
from cowtrace.workloads import settings
from cowtrace.workloads.features import Unsupported

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("bpf", "vagrant")
# Imported early or by name by some program in Python; usercustomize by each that is not isolated.
HOSTILE = ("click", "rich", "json", "re", "cowtrace", "sitecustomize", "usercustomize")


def run(*command: str | Path) -> str:
    """Its standard output. Runs outside the checkout, so that Python cannot import from it."""
    return subprocess.run(command, cwd="/", check=True, text=True, stdout=subprocess.PIPE).stdout


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file under `folder`, but for what Python or vagrant leave in hidden folders."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith((".", "__"))
    }


def requirements(package: str) -> set[str]:
    """Names of what `package` needs at run time, and of what those need."""
    names = set()
    for line in metadata.requires(package) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            names |= {requirement.name} | requirements(requirement.name)
    return names


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin/ folder of a fresh environment that has the wheel installed.

    What the wheel depends on, and nothing else, comes from the running environment by way of
    symbolic links: the test needs no network.
    """
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    home = folder / "venv"
    venv.create(home, symlinks=True, system_site_packages=False, with_pip=False)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel)

    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for name in requirements("cowtrace"):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {".."}:
            (site / top).symlink_to(str(distribution.locate_file(top)))
    return python.parent


def test_script_tells_the_version(installed: Path) -> None:
    assert cowtrace.__version__ in run(installed / "cowtrace", "--version")
    assert cowtrace.__version__ in run(installed / "python", "-m", "cowtrace", "--version")


@pytest.mark.parametrize("name", FOLDERS)
def test_every_file_is_found_in_the_wheel(installed: Path, name: str) -> None:
    code = f"from cowtrace import shipped; print(shipped.{name}_dir())"
    shipped = Path(run(installed / "python", "-c", code).strip())
    assert shipped.is_relative_to(installed.parent)

    assert contents(shipped) == contents(ROOT / name)


def test_every_file_of_the_pages_is_in_the_wheel(installed: Path) -> None:
    code = "import cowtrace.html; print(cowtrace.html.__path__[0])"
    shipped = Path(run(installed / "python", "-c", code).strip())
    assert shipped.is_relative_to(installed.parent)
    ours = contents(ROOT / "cowtrace" / "html")
    assert {name: text for name, text in contents(shipped).items() if name in ours} == ours
    assert any(name.suffix == ".js" for name in ours)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder of modules, each of which leaves a mark when it is imported, as root would."""
    for name in HOSTILE:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    return tmp_path


def environments(hostile: Path) -> dict[str, dict[str, str]]:
    """As `sudo -E` and `su` keep them."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = hostile / "home" / ".local" / "lib" / version / "site-packages"
    site.parent.mkdir(parents=True)
    site.symlink_to(hostile)
    return {
        "the current folder": {},
        "PYTHONPATH": {"PYTHONPATH": str(hostile)},
        "an empty PYTHONPATH": {"PYTHONPATH": ":"},
        "the user's packages": {"HOME": str(hostile / "home")},
        "PYTHONUSERBASE": {"PYTHONUSERBASE": str(hostile / "home" / ".local")},
        "PYTHONSTARTUP": {"PYTHONSTARTUP": str(hostile / "re.py"), "PYTHONINSPECT": "1"},
    }


def quietly(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    nothing = subprocess.DEVNULL
    return subprocess.run(command, stdin=nothing, capture_output=True, text=True, **options)


@pytest.mark.parametrize("link", [False, True])
def test_the_script_imports_nothing_of_others(installed: Path, hostile: Path, link: bool) -> None:
    script = installed / "cowtrace"
    (hostile / "python3").write_text("#!/bin/sh\ntouch mark\n")
    (hostile / "python3").chmod(0o755)
    if link:  # as pipx makes one, and users who want it in PATH
        (hostile / "bin").mkdir()
        (hostile / "bin" / "cowtrace").symlink_to(script)
        script = hostile / "bin" / "cowtrace"
    for name, environ in environments(hostile).items():
        environ = os.environ | {"PATH": f"{hostile}:/usr/bin:/bin"} | environ
        for arguments, code in ((["--version"], 0), (["report", "x.cow"], 1)):
            ended = quietly([script, *arguments], cwd=hostile, env=environ)
            assert ended.returncode == code, ended.stderr
            assert "cowtrace" in ended.stdout + ended.stderr
            assert not (hostile / "mark").exists(), name


@pytest.mark.parametrize(
    "start",
    [
        "from cowtrace import workloads; workloads.run('fork-child-writes', 23)",
        "from cowtrace.cli import cost; cost._WORK = 'import json; print([1, [1.0] * 9])'\n"
        "cost._run()",
        "from cowtrace.demo.acts import Stage; Stage(None, 100)._start_player(False).communicate()",
        "import subprocess; from cowtrace import child\n"
        "subprocess.run(child.command('cowtrace', '--version'))",
    ],
)
def test_what_it_starts_imports_nothing_of_others(start: str, hostile: Path) -> None:
    """In each of the environments in turn: the process that starts it is isolated from them."""
    code = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"before = dict(os.environ)\n"
        f"for name, environ in {environments(hostile)!r}.items():\n"
        f"    os.environ.clear(), os.environ.update(before | environ)\n"
        f"{textwrap.indent(start, '    ')}\n"
        f"    assert not os.path.exists('mark'), name\n"
        f"print('the end')"
    )
    ended = quietly([sys.executable, "-I", "-c", code], cwd=hostile)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("the end\n")


def test_programs_of_the_system_are_not_another_users(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sh", "mkswap", "true"):
        (hostile / name).write_text(f"#!/bin/sh\necho >{hostile}/mark\n")
        (hostile / name).chmod(0o755)
    hostile.chmod(0o777)  # others can put programs there
    monkeypatch.chdir(hostile)
    monkeypatch.setenv("PATH", f"{hostile}:.::/usr/bin:{hostile}/none:/bin")
    assert child.search_path().split(":")[0] == "/usr/bin"
    with settings.restored_by("true"):
        pass
    with suppress(Unsupported):
        settings.run("mkswap", "--version")
    assert subprocess.run(["true"], env=child.environment()).returncode == 0
    assert not (hostile / "mark").exists()
    hostile.chmod(0o755)  # one's own
    assert child.search_path().split(":")[0] == str(hostile)
