"""Debian's PostgreSQL under pgbench: shared_buffers are no copies, what each backend copies is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from applications import memory
from applications.application import Application, children, output, running, scratch
from applications.watched import MIB, Watched, fork_of, no_mapping, uncertain_bytes
from cowtrace.model import COPIES, FaultKind, Snapshot
from cowtrace.workloads.region import PAGE_BYTES

pytestmark = [pytest.mark.host, pytest.mark.vm, pytest.mark.spread("6.1")]

USER = "postgres"
CLIENTS = 3
BUFFERS_MIB = 64
DIRTY_BYTES = 8 * MIB  # written to shared_buffers before it is looked at
VM_SHARED = 0x8  # include/linux/mm.h


@dataclass(frozen=True)
class Postgres:
    app: Application
    programs: Path  # the folder of this version's
    folder: Path  # with its socket

    def ask(self, query: str) -> str:
        return output("psql", "-h", self.folder, "-U", USER, "-AtXc", query).strip()

    def dirty_bytes(self) -> int:
        """Of shared_buffers: written and not in a file yet."""
        query = "select count(*) * current_setting('block_size')::int from pg_buffercache"
        return int(self.ask(f"{query} where isdirty"))

    def backends(self) -> list[int]:
        """Pids of the processes that serve pgbench's clients."""
        query = "select pid from pg_stat_activity where application_name = 'pgbench'"
        return [int(pid) for pid in self.ask(query).split()]


@contextmanager
def server() -> Iterator[Postgres]:
    installed = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    programs = max((path.parent for path in installed), default=None)
    if programs is None:
        pytest.skip("postgresql is not installed: apt install postgresql")
    with scratch(USER) as folder:
        data = folder / "data"
        initdb = f"{programs}/initdb -D {data} -A trust --no-sync --no-locale"
        output(*initdb.split(), user=USER)
        settings = {
            "unix_socket_directories": folder,
            "listen_addresses": "",
            "shared_buffers": f"{BUFFERS_MIB}MB",
            "checkpoint_timeout": "1h",  # so that what is dirty stays so
            "bgwriter_lru_maxpages": 0,
            "fsync": "off",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [f"{programs}/postgres", "-D", str(data), *options]
        with running(command, folder, user=USER, end=signal.SIGINT) as app:
            app.wait_until(
                lambda: "ready to accept connections" in app.log.read_text(), "postgres is not up"
            )
            yield Postgres(app, programs, folder)


@contextmanager
def pgbench(postgres: Postgres) -> Iterator[None]:
    """Clients that write until the end of the block."""
    connect = ["-h", str(postgres.folder), "-U", USER, USER]
    output(postgres.programs / "pgbench", "-i", "-q", "-s", "2", *connect)
    postgres.ask("create extension pg_buffercache; checkpoint")
    command = [f"{postgres.programs}/pgbench", "-n", "-c", str(CLIENTS), "-T", "3600", *connect]
    with scratch() as folder, running(command, folder) as clients:
        clients.wait_until(
            lambda: len(postgres.backends()) == CLIENTS and postgres.dirty_bytes() > DIRTY_BYTES,
            "pgbench did not write enough",
        )
        yield


def test_postgres_shared_buffers_are_no_copies(watched: Watched) -> None:
    with server() as postgres:
        with pgbench(postgres):
            backends = postgres.backends()
            dirty = postgres.dirty_bytes()
            seen = watched.look()
            # Read after the trace: a page that was copied stays private and parted.
            rollups = {pid: memory.rollup(pid) for pid in backends}
            parted = {pid: memory.parted(pid, postgres.app.pid) for pid in backends}
        family = {postgres.app.pid, *children(postgres.app.pid), *backends}
    assert len(backends) == CLIENTS
    assert dirty > DIRTY_BYTES
    for plan, snapshot in seen.items():
        if watched.supports(plan, "mapping"):
            assert_buffers_shared(snapshot, family)
        else:
            assert no_mapping(snapshot)
        for pid in backends:
            process = snapshot.process(pid)
            assert process
            slack = uncertain_bytes(snapshot)
            fork = fork_of(snapshot, pid)
            assert fork.parent == postgres.app.pid
            # All its copies are since the fork that made it, and each is of one page.
            assert fork.child_copied_bytes == process.copied_bytes > 0
            assert process.copied_bytes <= parted[pid] * PAGE_BYTES + slack
            assert process.copied_bytes <= rollups[pid]["Private_Dirty"] + slack
            # A counter that took the writes to shared_buffers for copies would show them: they
            # are dirty, and mapped by this backend.
            assert rollups[pid]["Shared_Dirty"] > 10 * process.copied_bytes


def assert_buffers_shared(snapshot: Snapshot, family: set[int]) -> None:
    """Not one fault in shared memory, whose mapping is at least BUFFERS_MIB, is a copy."""
    rows = [row for row in snapshot.details if row.pid in family and row.mapping]
    shared = [row for row in rows if row.mapping and row.mapping.flags & VM_SHARED]
    assert not [row for row in shared if row.kind in (*COPIES, FaultKind.ZERO_FILLED)]
    copies = [row for row in rows if row.kind in COPIES and row.mapping]
    largest = max(row.mapping.end - row.mapping.start for row in copies if row.mapping)
    assert largest < BUFFERS_MIB * MIB
