"""Start a command as another user: the option --user, the credentials and the environment."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import click

from cowtrace.cli.options import Command
from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.sandbox import clear_ambient
from cowtrace.text import printable

_ROOT = 0


@dataclass(frozen=True, slots=True)
class User:
    """An entry of the user database, with the groups that the user is in."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


def find(name: str) -> User:
    """A user by name or UID. Raises CowtraceError: unknown, or this process may not become it."""
    try:
        entry = pwd.getpwuid(int(name)) if _is_uid(name) else pwd.getpwnam(name)
    except (KeyError, OverflowError, ValueError):
        raise CowtraceError(
            f"there is no user {printable(name)}",
            hint="name a user of this machine, or a UID: getent passwd",
            exit_code=EXIT_USAGE,
        ) from None
    if os.geteuid() != _ROOT:
        raise CowtraceError(
            f"only root can start a command as {printable(name)}", hint="run it again with sudo"
        )
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir, entry.pw_shell)


def _is_uid(name: str) -> bool:
    return name.isascii() and name.isdigit()


def environment(user: User) -> dict[str, str]:
    """The variables that change with the user, as sudo(8) and su(1) set them; PATH stays."""
    shell = user.shell or "/bin/sh"
    return {"HOME": user.home, "SHELL": shell, "USER": user.name, "LOGNAME": user.name}


@contextmanager
def acting_as(user: User) -> Iterator[None]:
    """What is executed in the block runs as this user, for good; this process becomes root again.

    Credentials are changed here and not in the child, as a child that runs Python first would copy
    pages of it, and these would count as the command's. The saved user ID stays root's, which
    execve(2) replaces. Raises CowtraceError if this root may not become another user.
    """
    clear_ambient()
    with ExitStack() as restore:
        try:
            groups, gids, uids = os.getgroups(), os.getresgid(), os.getresuid()
            os.setgroups(user.groups)
            restore.callback(os.setgroups, groups)
            os.setresgid(user.gid, user.gid, _ROOT)
            restore.callback(os.setresgid, *gids)
            os.setresuid(user.uid, user.uid, _ROOT)
            restore.callback(os.setresuid, *uids)
        except OSError as error:
            raise CowtraceError(
                f"cannot start a command as {printable(user.name)}: {error.strerror}",
                hint="in a container, add the capabilities SETUID and SETGID",
            ) from None
        yield


def _found(context: click.Context, _: click.Parameter, name: str | None) -> User | None:
    return None if name is None or context.resilient_parsing else find(name)


def user_option(command: Command) -> Command:
    """--user; the command gets a User, or None."""
    option = click.option(
        "--user", callback=_found, metavar="NAME",
        help="Start the command as this user, by name or UID.",
    )  # fmt: skip
    return option(command)
