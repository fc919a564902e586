"""Debian's gunicorn with preload: what a worker's garbage collection copies, gc.freeze() or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from applications import memory
from applications.application import PYTHON, Application, children, get, running, scratch
from applications.watched import Watched, fork_of, need, uncertain_bytes
from cowtrace.model import Snapshot
from cowtrace.workloads.region import PAGE_BYTES

pytestmark = [pytest.mark.host, pytest.mark.vm, pytest.mark.spread("5.10")]

# The collector writes to the header before each object that it tracks. Its pages are counted in
# the master, before the fork.
APP = """
import gc, json, mmap
CATALOGUE = [{"id": n, "tags": [n, n + 1]} for n in range(40_009)]
HEADERS = [id(item) - 16 for item in CATALOGUE] + [id(item["tags"]) - 16 for item in CATALOGUE]
PAGES = len({header // mmap.PAGESIZE for header in HEADERS})
def application(environ, start_response):
    if environ["PATH_INFO"] == "/collect":
        gc.collect()
    body = json.dumps({"pages": PAGES, "frozen": gc.get_freeze_count()}).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
CONF = """
import gc
workers = 1
preload_app = True
"""
FREEZE = """
def pre_fork(server, worker):
    gc.collect()
    gc.freeze()
"""
# Handling a request copies some pages too, of the interpreter and of gunicorn.
REQUEST_PAGES = 64


@dataclass(frozen=True)
class Gunicorn:
    app: Application
    socket: Path

    def get(self, path: str) -> dict[str, int]:
        """The JSON of a page."""
        return get(self.socket, path)


@contextmanager
def server(*, freeze: bool) -> Iterator[Gunicorn]:
    with scratch() as folder:
        (folder / "shop.py").write_text(APP)
        (folder / "conf.py").write_text(CONF + FREEZE * freeze)
        address = folder / "gunicorn.sock"
        command = [PYTHON, "-m", "gunicorn", "-c", "conf.py", "-b", f"unix:{address}"]
        with running([*command, "shop:application"], folder) as app:
            app.wait_until(lambda: "Booting worker" in app.log.read_text(), "no worker")
            yield Gunicorn(app, address)


def test_a_gunicorn_workers_collection_copies_unless_frozen(watched: Watched) -> None:
    need("gunicorn", "gunicorn")
    shared = collected(watched, freeze=False)
    frozen = collected(watched, freeze=True)
    for plan in watched.tracers:
        # The fix helps, and by what the objects take: the worker keeps sharing them.
        assert frozen[plan] < 0.1 * shared[plan]


def collected(watched: Watched, *, freeze: bool) -> dict[str, int]:
    """Bytes that a worker copied in a full collection, by plan; checked against pagemap."""
    with server(freeze=freeze) as gunicorn:
        pages = gunicorn.get("/")["pages"]
        (worker,) = children(gunicorn.app.pid)
        before, parted_before = watched.look(), memory.parted(worker, gunicorn.app.pid)
        counted = gunicorn.get("/collect")
        after, parted_after = watched.look(), memory.parted(worker, gunicorn.app.pid)
        private = memory.rollup(worker)["Private_Dirty"]
    assert (counted["frozen"] > 0) == freeze
    parted = (parted_after - parted_before) * PAGE_BYTES
    result = {}
    for plan, snapshot in after.items():
        slack = REQUEST_PAGES * PAGE_BYTES + uncertain_bytes(snapshot)
        copied = copied_bytes(snapshot, worker) - copied_bytes(before[plan], worker)
        # Pages that became different frames meanwhile; the request's own new pages are in it.
        assert abs(copied - parted) <= slack
        assert copied_bytes(snapshot, worker) <= private + slack
        if not freeze:  # each page of the objects, but for those that were copied before
            assert copied_bytes(snapshot, worker) >= pages * PAGE_BYTES - slack
        result[plan] = copied
    return result


def copied_bytes(snapshot: Snapshot, worker: int) -> int:
    """What the worker copied since the fork that created it: everything that it copied."""
    process = snapshot.process(worker)
    assert process
    assert fork_of(snapshot, worker).child_copied_bytes == process.copied_bytes
    return process.copied_bytes
