"""`git bisect run cowtrace verify --kernel .`, with real git and make, and a VM that is made up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# A VM in which a kernel keeps the claim as long as its image says so.
STEP = """
import sys
from pathlib import Path
from types import SimpleNamespace
sys.path[:0] = {paths!r}
from made_checks import check
from cowtrace.cli import kernels, main
from cowtrace.verify import vms
from cowtrace.verify.check import Verdict

def prepare(known, path, machine):
    return SimpleNamespace(name="linux", versions="linux", config="", lacking=(), btf=None)

def checks_on(kernel, words, options):
    says = Path(kernel, "arch/x86/boot/bzImage").read_text().strip()
    yield check("C6", Verdict.HOLDS if says == "good" else Verdict.FAILS)

kernels.prepare, vms.checks_on = prepare, checks_on
sys.argv[0] = "cowtrace"
main(["verify", "--kernel", ".", "C6"])
"""
MAKEFILE = """
olddefconfig:
bzImage:
\t! grep broken source
\tmkdir -p arch/x86/boot && cp source arch/x86/boot/bzImage
"""


def git(tree: Path, *arguments: str) -> str:
    settings = ("user.name=x", "user.email=x@localhost", "commit.gpgsign=false", "gc.auto=0")
    options = [word for setting in settings for word in ("-c", setting)]
    ran = subprocess.run(
        ["git", *options, *arguments],
        cwd=tree,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "XDG_CACHE_HOME": f"{tree}.cache"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_commit_is_found_past_one_that_does_not_build(tmp_path: Path) -> None:
    for program in ("git", "make"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    tree = tmp_path / "linux"
    tree.mkdir()
    (tree / "Makefile").write_text(MAKEFILE)
    (tree / ".config").write_text("CONFIG_X86_64=y\n")
    git(tree, "init", "-q")
    states = ("good", "good", "bad", "broken", "bad", "bad", "bad")
    for number, state in enumerate(states):
        (tree / "source").write_text(f"{state}\n")
        (tree / "other").write_text(f"{number}\n")
        git(tree, "add", "Makefile", ".config", "source", "other")
        git(tree, "commit", "-qm", f"{number}: {state}")
    git(tree, "bisect", "start", "HEAD", f"HEAD~{len(states) - 1}")
    step = tmp_path / "step.py"
    here = Path(__file__).resolve()
    step.write_text(STEP.format(paths=[str(here.parent), str(here.parents[2])]))
    said = git(tree, "bisect", "run", sys.executable, str(step))
    assert "is the first bad commit" in said
    assert git(tree, "log", "-1", "--format=%s", "refs/bisect/bad") == "2: bad\n"
    assert git(tree, "for-each-ref", "refs/bisect/skip-*")  # the one that does not build
