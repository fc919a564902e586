"""The exit codes of `cowtrace verify`: for kernels by name, and for paths, as git bisect wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from made_checks import check
from made_kernels import bzimage, tree

from cowtrace import cli
from cowtrace.cli import kernels
from cowtrace.errors import (
    EXIT_MISMATCH,
    EXIT_NO_PLAN,
    EXIT_NO_VM,
    EXIT_UNTESTABLE,
    EXIT_USAGE,
    CowtraceError,
)
from cowtrace.verify import exit_codes, vms
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.matrix import KernelChecks
from cowtrace.vm.bootable import Hardware

GOOD, BAD, UNSEEN = check(), check("C2", Verdict.FAILS), check("C3", Verdict.UNSEEN)
STOPPED = CowtraceError("the kernel stopped", hint="look", exit_code=EXIT_NO_VM)


@pytest.mark.parametrize(
    ("checks", "failure", "named", "own"),
    [
        ((GOOD,), None, 0, 0),
        ((GOOD, UNSEEN), None, 0, 0),
        ((GOOD, BAD), None, EXIT_MISMATCH, EXIT_MISMATCH),
        ((UNSEEN,), None, 0, EXIT_UNTESTABLE),
        ((), None, 0, EXIT_UNTESTABLE),
        ((GOOD,), STOPPED, EXIT_NO_VM, EXIT_UNTESTABLE),
        ((BAD,), STOPPED, EXIT_NO_VM, EXIT_MISMATCH),
    ],
)
def test_what_each_outcome_means(
    checks: tuple[Check, ...], failure: CowtraceError | None, named: int, own: int
) -> None:
    bad = BAD in checks
    made = [KernelChecks("linux", checks, ())]
    assert exit_codes.exit_code(made, failure, bad=bad, own=False) == named
    assert exit_codes.exit_code(made, failure, bad=bad, own=True) == own


def verify(
    monkeypatch: pytest.MonkeyPatch, *arguments: str, checks: Any = (GOOD,), makes: Any = None
) -> Result:
    """`cowtrace verify` with a VM that makes these checks, and a make that does this."""

    def checks_on(kernel: str, words: Any, options: Any) -> Iterator[Check]:
        for one in checks:
            if isinstance(one, CowtraceError):
                raise one
            yield one

    def prepare(known: Any, path: str, machine: Any) -> Any:
        return Faked()

    class Faked:
        name, versions, config, lacking, btf = "linux", "linux: 6.12.1-mine", "", (), None

    monkeypatch.setattr(vms, "checks_on", checks_on)
    monkeypatch.setattr(kernels, "prepare", prepare)
    monkeypatch.setattr(kernels, "make_tree", makes or (lambda path, options: None))
    return CliRunner().invoke(cli.main, ["verify", *arguments])


def test_a_tree_is_good_bad_or_untestable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = str(tree(tmp_path / "linux", image=bzimage()))
    good = verify(monkeypatch, "--kernel", path)
    assert good.exit_code == 0
    assert "linux: 6.12.1-mine" in good.stdout
    assert verify(monkeypatch, "--kernel", path, checks=(GOOD, BAD)).exit_code == EXIT_MISMATCH
    stopped = verify(monkeypatch, "--kernel", path, checks=(GOOD, STOPPED))
    assert stopped.exit_code == EXIT_UNTESTABLE
    assert stopped.stderr.endswith("cowtrace: the kernel stopped\nHint: look\n")
    unseen = verify(monkeypatch, "--kernel", path, checks=(UNSEEN,))
    assert unseen.exit_code == EXIT_UNTESTABLE
    assert "none of the checks could be seen" in unseen.stderr
    no_plan = CowtraceError("no plan", hint="h", exit_code=EXIT_NO_PLAN)
    assert verify(monkeypatch, "--kernel", path, checks=(no_plan,)).exit_code == EXIT_UNTESTABLE


def test_a_tree_that_does_not_build_is_untestable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = str(tree(tmp_path / "linux", image=bzimage()))
    made: list[tuple[str, str]] = []

    def makes(tree: str, options: str) -> None:
        made.append((tree, options))
        raise CowtraceError("linux does not build", hint="see log")

    failed = verify(monkeypatch, "--kernel", path, "--make", "LLVM=1", makes=makes)
    assert failed.exit_code == EXIT_UNTESTABLE
    assert made == [(path, "LLVM=1")]
    assert verify(monkeypatch, "--kernel", path, "--no-make", makes=makes).exit_code == 0
    assert len(made) == 1


def test_a_wrong_claim_is_not_taken_for_a_bad_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify(monkeypatch, "--kernel", ".", "C9").exit_code == EXIT_UNTESTABLE
    assert verify(monkeypatch, "--kernel", "6.12", "C9").exit_code == EXIT_USAGE
    assert verify(monkeypatch, "--kernel", "6.13").exit_code == EXIT_USAGE


def test_the_machine_is_passed_on() -> None:
    machine = kernels.Machine(Path("m,1"), None, Hardware(512, 1, "max", "a b"))
    assert machine.arguments() == (
        *("--modules=m,1", "--append=a b", "--cpu=max"),
        *("--memory=512", "--cpus=1"),
    )
