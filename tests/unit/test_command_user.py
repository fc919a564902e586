"""`run --user` and `record --user`: who is refused, before anything is attached."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_run import cowtrace

from cowtrace.cli import main
from cowtrace.cli.command_user import User, acting_as, environment, find
from cowtrace.cli.launch import resolve
from cowtrace.errors import EXIT_USAGE, CowtraceError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")


@pytest.mark.parametrize("name", ["nosuch", "", "-5", "4294967295", "9" * 30, "²", "x\ny"])
@pytest.mark.parametrize("command", [["run"], ["record", "-o", "/nonexistent/x"]])
def test_an_unknown_user_is_refused_in_two_lines(name: str, command: list[str]) -> None:
    result = CliRunner().invoke(main, [*command, "--user", name, "--", "true"])
    assert result.exit_code == EXIT_USAGE
    first, second = result.stderr.splitlines()
    assert first.startswith("cowtrace: there is no user ")
    assert second.startswith("Hint: ")


def test_only_root_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CowtraceError, match="only root can start a command as nobody") as refused:
        find("nobody")
    assert refused.value.hint == "run it again with sudo"


@as_root
def test_a_name_and_a_uid_find_the_same_user() -> None:
    nobody = pwd.getpwnam("nobody")
    assert find("nobody") == find(str(nobody.pw_uid))
    assert find("nobody").groups == tuple(os.getgrouplist("nobody", nobody.pw_gid))


def test_record_without_a_command_has_no_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    result = CliRunner().invoke(main, ["record", "-o", "/nonexistent/x", "--user", "nobody"])
    assert result.exit_code == EXIT_USAGE
    assert "--user names the user of COMMAND" in result.stderr


def test_a_user_without_a_shell_has_the_default_one() -> None:
    user = User("x", 1, 1, (1,), "/x", "")
    assert environment(user) == {"HOME": "/x", "SHELL": "/bin/sh", "USER": "x", "LOGNAME": "x"}


@as_root
def test_the_command_starts_as_that_user() -> None:
    look = "id -un; echo $USER $LOGNAME $HOME $SHELL"
    ended = cowtrace("-q", "--user", "nobody", "--", "sh", "-c", look)
    entry = pwd.getpwnam("nobody")
    assert ended.stdout == f"nobody\nnobody nobody {entry.pw_dir} {entry.pw_shell}\n", ended.stderr


@as_root
def test_this_process_is_root_again_also_after_an_error() -> None:
    before = os.getresuid(), os.getresgid(), os.getgroups()
    with suppress(ZeroDivisionError), acting_as(find("nobody")):
        assert os.getresuid()[:2] == (65534, 65534)
        raise ZeroDivisionError
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before
    assert "CapEff:\t0000000000000000" not in Path("/proc/self/status").read_text()


@as_root
@pytest.mark.parametrize("refused", ["setgroups", "setresgid", "setresuid"])
def test_where_root_may_not_become_another_user_nothing_is_left_changed(
    monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """As in a container without the capabilities SETUID and SETGID."""
    before = os.getresuid(), os.getresgid(), os.getgroups()

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, refused, refuse)
    with pytest.raises(CowtraceError, match="Operation not permitted"), acting_as(find("nobody")):
        pass
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


@as_root
def test_the_program_is_the_one_that_the_user_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of root's PATH may be closed to that user: the search goes on, as in a shell."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "id").write_text("#!/bin/sh\necho wrong\n")
    (closed / "id").chmod(0o755)
    monkeypatch.setenv("PATH", f"{closed}:{os.environ['PATH']}")
    assert resolve("id") == str(closed / "id")
    ids = os.getresuid(), os.getresgid(), os.getgroups()
    assert resolve("id", find("nobody")) != str(closed / "id")
    assert ids == (os.getresuid(), os.getresgid(), os.getgroups())
    with pytest.raises(CowtraceError, match="no execute permission"):
        resolve(str(closed / "id"), find("nobody"))
