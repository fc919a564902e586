"""Debian's gunicorn with the catalogue of the guide: what avoids copies, predicted and measured."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from command import PATIENCE

from applications.application import PYTHON, Application, children, get, running, scratch
from applications.watched import OURS, Watched, need
from cowtrace import guide, tracer
from cowtrace.analysis.objects import known_bytes, object_rows, remedies
from cowtrace.model import Snapshot
from cowtrace.tracer import Tracer
from cowtrace.tracer.filter import Filter

pytestmark = [pytest.mark.host, pytest.mark.vm, pytest.mark.spread("6.12")]

WORKERS = 3
# Files of the guide's page: a block of code that begins with its name.
FILES = re.compile(r"^```\n(# (\w+\.py)\n.*?)^```$", re.M | re.S)
LEAVE, ARRAYS = "os._exit() in workers", "arrays (array, numpy) of numbers"
RECORDS = "records in arrays or a file"


@dataclass(frozen=True)
class Copies:
    """Of the workers that served requests and ended."""

    copied_bytes: int
    known_bytes: int  # with a cause
    avoided: dict[str, int]  # bytes at most, by change

    @staticmethod
    def of(snapshot: Snapshot, workers: set[int]) -> Copies:
        rows = object_rows(row for row in snapshot.samples if row.pid in workers)
        copied = sum(each.copied_bytes for each in snapshot.processes if each.pid in workers)
        assert sum(row.bytes for row in rows) == pytest.approx(copied, rel=0.05)
        avoided = {each.change: each.bytes for each in remedies(rows)}
        return Copies(copied, known_bytes(rows), avoided)


@contextmanager
def service(*options: str) -> Iterator[Application]:
    with scratch() as folder:
        for text, name in FILES.findall(guide.page("objects").text):
            (folder / name).write_text(text)
        command = [PYTHON, "-m", "gunicorn", "--preload", "-w", str(WORKERS)]
        with running([*command, "-b", "unix:shop.sock", *options], folder) as app:
            yield app


def boot(app: Application) -> set[int]:
    app.wait_until(lambda: booted(app) == WORKERS, "no workers")
    workers = set(children(app.pid))
    assert len(workers) == WORKERS
    return workers


def booted(app: Application) -> int:
    return app.log.read_text().count("Booting worker")


def serve(app: Application, workers: set[int], live: Tracer) -> None:
    """Each worker reads the whole catalogue."""
    left = set(workers)

    def all_served() -> bool:
        left.discard(get(app.folder / "shop.sock", "/7")["worker"])
        live.snapshot()
        return not left

    live.snapshot()  # finds the interpreters
    app.wait_until(all_served, "a worker served no request")


def replace(app: Application, workers: set[int], live: Tracer) -> None:
    """The workers end, others take their places; looks as often as `cowtrace objects` does."""
    for worker in workers:
        os.kill(worker, signal.SIGTERM)

    def replaced() -> bool:
        live.snapshot()
        return booted(app) == 2 * WORKERS

    app.wait_until(replaced, "a worker did not end")


def served(plan: str, *options: str) -> Copies:
    """Each worker reads the whole catalogue and ends; others take their places."""
    with tracer.attach(plan, objects=True, only=OURS) as live, service(*options) as app:
        workers = boot(app)
        serve(app, workers, live)
        replace(app, workers, live)
        found = live.snapshot()
    assert found.completeness.lost == 0, found.completeness
    return Copies.of(found, workers)


@pytest.mark.timeout(1500)  # four services, one after the other: minutes in an emulated VM
def test_what_avoids_copies_is_predicted(watched: Watched) -> None:
    need("gunicorn", "gunicorn")
    plan = next(iter(watched.tracers))
    plain = served(plan, "shop:application")
    quick = served(plan, "-c", "leave.py", "shop:application")
    columns = served(plan, "-c", "leave.py", "columns:application")
    groups = served(plan, "-c", "leave.py", "groups:application")
    for each in (plain, quick, columns, groups):
        assert each.known_bytes >= 0.95 * each.copied_bytes, each
    saved = plain.copied_bytes - quick.copied_bytes
    assert saved == pytest.approx(plain.avoided[LEAVE], rel=0.2), (plain, quick)
    saved = quick.copied_bytes - columns.copied_bytes
    assert saved == pytest.approx(quick.avoided[ARRAYS], rel=0.2), (quick, columns)
    saved = columns.copied_bytes - groups.copied_bytes
    assert saved == pytest.approx(columns.avoided[RECORDS], rel=0.2), (columns, groups)
    assert LEAVE not in quick.avoided
    assert ARRAYS not in columns.avoided


@pytest.mark.parametrize("ends", ["workers", "service"])
def test_a_service_that_runs_already(watched: Watched, ends: str) -> None:
    """Its forks were not seen; at the end of the service nobody is left who could tell."""
    need("gunicorn", "gunicorn")
    plan = next(iter(watched.tracers))
    with service("shop:application") as app:
        workers = boot(app)
        only = Filter(pids=(app.pid,), follow=True)
        with tracer.attach(plan, objects=True, only=only) as live:
            serve(app, workers, live)
            if ends == "workers":
                replace(app, workers, live)
            else:
                os.kill(app.pid, signal.SIGTERM)
                app.process.wait(PATIENCE)
            found = live.snapshot()
    assert found.completeness.lost == 0, found.completeness
    copies = Copies.of(found, workers)
    assert copies.known_bytes >= 0.95 * copies.copied_bytes, copies
