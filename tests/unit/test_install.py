"""A wheel in a fresh environment has all that cowtrace needs to run, bpf/ and vagrant/ too."""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import cowtrace

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("bpf", "vagrant")


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


def test_console_script_tells_the_version(installed: Path) -> None:
    assert cowtrace.__version__ in run(installed / "cowtrace", "--version")
    assert cowtrace.__version__ in run(installed / "python", "-m", "cowtrace", "--version")


@pytest.mark.parametrize("name", FOLDERS)
def test_every_file_is_found_in_the_wheel(installed: Path, name: str) -> None:
    code = f"from cowtrace import shipped; print(shipped.{name}_dir())"
    shipped = Path(run(installed / "python", "-c", code).strip())
    assert shipped.is_relative_to(installed.parent)

    assert contents(shipped) == contents(ROOT / name)
