"""Where applications' private memory came from: the rows add up to smaps, of each process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from command import eventually

from applications import test_gunicorn, test_multiprocessing, test_postgres, test_redis
from applications.application import children
from applications.watched import MIB, need
from cowtrace import proc
from cowtrace.analysis.private import Accounts
from cowtrace.model import Account, Cause

pytestmark = [pytest.mark.host, pytest.mark.vm, pytest.mark.spread]

QUIET_SECONDS = 5
Step = Callable[[], object]


def redis(stack: ExitStack) -> tuple[int, list[Step]]:
    """Written while a child saves, and after that."""
    need("redis-server", "redis-server")
    server = stack.enter_context(test_redis.server())

    def save() -> None:
        child = server.save()
        os.kill(child, signal.SIGSTOP)
        stack.callback(_end, child)

    return server.app.pid, [save, lambda: server.write(20_000), lambda: server.write(5_000)]


def gunicorn(stack: ExitStack) -> tuple[int, list[Step]]:
    """A hundred requests, a collection, and a new worker in place of the old one."""
    need("gunicorn", "gunicorn")
    server = stack.enter_context(test_gunicorn.server(freeze=False))

    def requests() -> None:
        for _ in range(100):
            server.get("/")

    def restart() -> None:
        (worker,) = children(server.app.pid)
        os.kill(worker, signal.SIGTERM)
        eventually(lambda: children(server.app.pid) not in ([], [worker]))
        requests()

    return server.app.pid, [requests, lambda: server.get("/collect"), restart]


def postgres(stack: ExitStack) -> tuple[int, list[Step]]:
    """Clients come, write and go."""
    server = stack.enter_context(test_postgres.server())

    def clients() -> None:
        with test_postgres.pgbench(server):
            pass

    return server.app.pid, [clients, lambda: server.ask("select count(*) from pg_class")]


def multiprocessing(stack: ExitStack) -> tuple[int, list[Step]]:
    """A child reads all objects of its parent."""
    reader = stack.enter_context(test_multiprocessing.reader())
    return reader.app.pid, [reader.read]


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@contextmanager
def read_at_rest(
    start: Callable[[ExitStack], tuple[int, list[Step]]],
) -> Iterator[tuple[int, tuple[Account, ...]]]:
    """The application's first process and the accounts of all, after all steps."""
    with ExitStack() as stack:
        pid, steps = start(stack)
        accounts = Accounts()
        for step in (lambda: None, *steps):
            step()
            end = time.monotonic() + QUIET_SECONDS
            accounts.read(lambda: {pid, *proc.descendants([pid])})
            # Timers go on, and what has just been asked for: until a reading meets no change.
            while any(one.moved for one in accounts.accounts) and time.monotonic() < end:
                accounts.read(lambda: {pid, *proc.descendants([pid])})
        yield pid, accounts.accounts


@pytest.mark.parametrize("start", [redis, gunicorn, postgres, multiprocessing])
def test_the_rows_add_up_in_applications(
    start: Callable[[ExitStack], tuple[int, list[Step]]],
) -> None:
    with read_at_rest(start) as (_, accounts):
        assert len(accounts) > 1
        for one in accounts:
            allowed = max(64 << 10, abs(one.change) // 100)
            assert abs(one.unexplained) <= allowed + one.moved, one


def test_most_of_what_a_saving_redis_child_has_it_did_not_copy() -> None:
    """Its parent did: the pages are in rdb_last_cow_size, and no fault of the child made them."""
    with read_at_rest(redis) as (parent, accounts):
        (server,) = (one for one in accounts if one.pid == parent)
        child = max((one for one in accounts if one is not server), key=lambda one: one.change)
        assert server.bytes(Cause.REPLACED) > 4 * MIB
        assert child.bytes(Cause.LEFT_ALONE) > child.bytes(Cause.REPLACED)
        assert child.bytes(Cause.LEFT_ALONE) >= 0.9 * server.bytes(Cause.REPLACED)
