"""No recording, however crafted, hangs `report`, fills the memory, or ends in a traceback."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm
from hostile_recordings import HOSTILE
from made_recordings import HEADER, write
from snapshots import process, row, snapshot

from cowtrace.__main__ import main
from cowtrace.errors import CowtraceError
from cowtrace.model import FaultKind
from cowtrace.recording import untrusted
from cowtrace.recording.reader import read
from cowtrace.recording.writer import Writer

NOBODY = 65534
SECONDS = 30  # a file that is read to its end takes 1; on a busy machine, more
MOST_MEMORY_BYTES = 600 << 20
# With nothing in them that is hostile to a reader: they are large, or nothing opens what is so.
ANSWERED = {
    *("parents-in-a-ring", "rows-in-great-number", "texts-of-4-mb"),
    *("fifo-as-journal", "fifo-as-shm", "deep-stacks-in-many-rows"),
}


def report(path: Path, scratch: Path) -> subprocess.CompletedProcess[str]:
    """`cowtrace report`, with a bound on its memory and on its time."""
    limits = {resource.RLIMIT_AS: MOST_MEMORY_BYTES, resource.RLIMIT_FSIZE: 64 << 20}
    environ = {"TMPDIR": str(scratch)}
    return warm.run(main, "report", path, env=environ, limits=limits, timeout=SECONDS)


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_answered_or_refused(name: str, tmp_path: Path) -> None:
    path, scratch = tmp_path / "hostile.cow", tmp_path / "scratch"
    scratch.mkdir()
    HOSTILE[name](path)
    beside = sorted(tmp_path.iterdir())
    ended = report(path, scratch)
    if name in ANSWERED:
        assert (ended.returncode, ended.stderr) == (0, "")
    else:
        assert ended.returncode == 1, ended.stdout
        what, hint = ended.stderr.rstrip().split("\n")
        assert what.startswith("cowtrace: ")
        assert hint.startswith("Hint: ")
        assert len(what) < 500
    assert sorted(tmp_path.iterdir()) == beside
    assert not list(scratch.iterdir())


SCHEMAS = (
    *("view-without-end", "view-that-fills-memory", "view-of-meta", "trigger", "virtual-table"),
    *("index-on-an-expression", "generated-column", "table-too-many", "definitions-too-many"),
)


@pytest.mark.parametrize("name", SCHEMAS)
def test_other_tables_than_cowtraces_are_not_read(name: str, tmp_path: Path) -> None:
    HOSTILE[name](tmp_path / "f")
    with pytest.raises(CowtraceError, match="its tables are not those of cowtrace"):
        read(tmp_path / "f")


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    write(tmp_path / "f")
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    else:
        (tmp_path / "f").chmod(0)
    try:
        with pytest.raises(CowtraceError, match=r"cannot read .*: no permission"):
            read(tmp_path / "f")
    finally:
        os.seteuid(os.getuid())


def test_a_wal_of_another_user_is_not_replayed(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    path = write(tmp_path / "f", close=False)
    os.chown(f"{path}-wal", NOBODY, NOBODY)
    with pytest.raises(CowtraceError, match="f-wal belongs to another user"):
        read(path)


@contextlib.contextmanager
def leased(path: Path) -> Iterator[None]:
    """Another process has the file's write lease: to open it waits for that process."""
    code = (
        "import fcntl, signal, sys, time; signal.signal(signal.SIGIO, signal.SIG_IGN)\n"
        "file = open(sys.argv[1], 'r+'); fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
        "print(flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as holder:
        try:
            assert holder.stdout
            if not holder.stdout.readline():
                pytest.skip("this file system has no leases")
            yield
        finally:
            holder.kill()


@pytest.mark.timeout(SECONDS)
def test_a_lease_is_not_waited_for(tmp_path: Path) -> None:
    path = write(tmp_path / "f")
    with leased(path), pytest.raises(CowtraceError, match="cannot read"):
        read(path)


def test_a_copy_is_consistent_while_its_wal_starts_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorder checkpoints after every few pages, and the reader loses each race it can."""
    path, begun, stop = tmp_path / "f", threading.Event(), threading.Event()
    lost = [0]  # races, in each read

    def recorder() -> None:
        file, at = Writer(path, HEADER), 0
        file._database.execute("PRAGMA wal_autocheckpoint = 4")
        while not stop.is_set():
            at += 1
            rows = row(FaultKind.COPIED, 23 * at)
            file.add(snapshot(*(process(pid, "a", rows) for pid in range(1, 101)), at=at))
            begun.set()
        file.close()

    def copy(source: int, target: Path, most: int) -> int:
        if target.name == "copy" and lost[-1] == 0:
            lost[-1] += 1
            before = Path(f"{path}-wal").read_bytes()[:32]
            size = whole(source, target, most)
            while Path(f"{path}-wal").read_bytes()[:32] == before:
                time.sleep(0.001)
            return size
        return whole(source, target, most)

    whole = untrusted._copy
    monkeypatch.setattr(untrusted, "_copy", copy)
    thread = threading.Thread(target=recorder)
    thread.start()
    try:
        begun.wait()
        for reads in range(23):
            lost[reads:] = [0]
            found = read(path)
            counts = {each.count(FaultKind.COPIED) for each in found.last.processes}
            assert counts == {23 * len(found.times)}
    finally:
        stop.set()
        thread.join()
    assert lost == [1] * 23
