"""Who may trace, and where: refused in two lines before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel import privileges


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is needed."""
    monkeypatch.setattr(privileges, "in_initial_pid_namespace", lambda: True)
    monkeypatch.setattr(privileges, "capabilities", lambda: frozenset({"CAP_BPF", "CAP_PERFMON"}))
    monkeypatch.setattr(privileges, "lockdown", lambda: "integrity")


@pytest.mark.usefixtures("allowed")
def test_two_capabilities_are_enough_also_with_lockdown_for_integrity() -> None:
    privileges.require_privileges()


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    ("what", "answer", "problem"),
    [
        ("in_initial_pid_namespace", False, "PID namespace"),
        ("capabilities", frozenset({"CAP_BPF"}), "needs root, or CAP_BPF and CAP_PERFMON"),
        ("lockdown", "confidentiality", "confidentiality"),
    ],
)
def test_each_lack_is_refused(
    monkeypatch: pytest.MonkeyPatch, what: str, answer: object, problem: str
) -> None:
    monkeypatch.setattr(privileges, what, lambda: answer)
    with pytest.raises(CowtraceError, match=problem) as refused:
        privileges.require_privileges()
    assert refused.value.exit_code == EXIT_NO_PLAN
    assert refused.value.hint


def test_a_kernel_without_pid_namespaces_has_host_pids(tmp_path: Path) -> None:
    assert privileges.in_initial_pid_namespace(tmp_path / "pid")
    (tmp_path / "pid").touch()  # another namespace's inode
    assert not privileges.in_initial_pid_namespace(tmp_path / "pid")
