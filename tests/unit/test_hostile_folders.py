"""Another user's folder, while that user exchanges what is in it as fast as possible."""

from __future__ import annotations

import os
import select
import sqlite3
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from made_recordings import HEADER, write

from cowtrace.errors import CowtraceError
from cowtrace.files import private_file
from cowtrace.recording.reader import read
from cowtrace.recording.writer import Writer

NOBODY = 65534
SECONDS = 0.5
PYTHON = "/usr/bin/python3"  # that of the test can be in a folder that others may not enter

# Exchanges what is in `folder`, or itself, for a link to the victim's, or creates files beside.
# Says on stderr when it first did; how often, when its stdin ends.
RACER = r"""
import ctypes, os, select, stat, sys
exchange = lambda a, b: ctypes.CDLL(None).renameat2(-100, a.encode(), -100, b.encode(), 2) == 0
attack, victim, done, round, said = *sys.argv[1:], 0, 0, 0
os.umask(0)
lstat = os.lstat
os.symlink(victim if attack == "the folder" else victim + "/made", "link")
print(flush=True)
while round % 64 or not select.select([0], [], [], 0)[0]:
    round += 1
    try:
        if attack == "the folder":
            done += exchange("folder", "link")
        elif attack == "the file" and stat.S_ISREG(lstat("folder/x").st_mode):
            os.rename("link", "folder/x")
            done += 1
            os.symlink(victim + "/made", "link")
        elif attack == "its private name":
            for name in os.listdir("folder"):
                if name[0] == ".":
                    link = f"folder/link{round}"  # beside it: to another folder it may not go
                    os.symlink(victim + "/made" * os.path.isfile("folder/" + name), link)
                    done += exchange(f"folder/{name}", link)
        elif attack == "files beside":
            for end in ("-wal", "-shm", "-journal"):
                os.close(os.open("folder/x" + end, os.O_CREAT | os.O_EXCL, 0o666))
                done += 1
    except OSError:
        pass
    if done and not said:
        said = os.write(2, b"done")
print(done)
"""
ATTACKS = ("the folder", "the file", "its private name", "files beside")


class Folders:
    """One that everybody may enter, with the attacker's in it, and the victim's."""

    def __init__(self, top: Path) -> None:
        self.attackers, self.victims = top / "attacker", top / "victim"
        top.chmod(0o755)
        for folder in (self.victims, self.attackers, self.attackers / "folder"):
            folder.mkdir()
            folder.chmod(0o755)
        os.chown(self.attackers, NOBODY, NOBODY)
        os.chown(self.attackers / "folder", NOBODY, NOBODY)

    @contextmanager
    def attacked(self, how: str) -> Iterator[Callable[[], bool]]:
        """Yield what says whether anything was exchanged or created yet."""
        command = [PYTHON, "-I", "-S", "-c", RACER, how, str(self.victims)]
        with subprocess.Popen(
            command, cwd=self.attackers, user=NOBODY, group=NOBODY, extra_groups=[],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as racer:  # fmt: skip
            try:
                assert racer.stdout
                assert racer.stderr
                said = racer.stderr.fileno()
                racer.stdout.readline()
                yield lambda: bool(select.select([said], [], [], 0)[0])
                done, _ = racer.communicate()
                assert int(done)
            finally:
                racer.kill()


@pytest.fixture
def folders() -> Iterator[Folders]:
    if os.geteuid() != 0:
        pytest.skip("only root can start a process of another user")
    with tempfile.TemporaryDirectory() as top:
        yield Folders(Path(top))


def record(path: Path) -> None:
    with closing(Writer(path, HEADER)):
        pass


def output(path: Path) -> None:
    with private_file(str(path)) as stream:
        stream.write("secret")


@pytest.mark.parametrize("how", ATTACKS)
@pytest.mark.parametrize("act", [record, output])
def test_nothing_is_written_elsewhere_nor_to_what_is_anothers(
    act: Callable[[Path], None], how: str, folders: Folders
) -> None:
    """As root, while another user exchanges folders and files, or plants some."""
    if (act, how) == (output, "files beside"):
        pytest.skip("an output file has none")
    cwd, root = Path.cwd(), Path("/").stat()
    tries, folder = 0, folders.attackers / "folder"
    before = folders.victims.stat().st_mtime_ns
    with folders.attacked(how) as some:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or tries < 23 or not some():  # on a busy machine, few
            tries += 1
            with suppress(CowtraceError, sqlite3.Error):
                act(folder / (f"x{tries}" if how == "the folder" else "x"))
            if how != "the folder":  # which can lead to the victim's
                for path in folder.iterdir():
                    status = path.lstat()
                    assert status.st_uid == 0 or path.is_symlink() or not status.st_size
                    path.rmdir() if stat.S_ISDIR(status.st_mode) else path.unlink()
    assert not list(folders.victims.iterdir())
    assert folders.victims.stat().st_mtime_ns == before
    assert (Path.cwd(), Path("/").stat().st_ino) == (cwd, root.st_ino)


def test_what_remains_is_usable_while_and_after_it_is_written(folders: Folders) -> None:
    path = folders.attackers / "folder" / "x"
    file = Writer(path, HEADER)
    names = {each.name for each in path.parent.iterdir()}
    assert names == {"x", "x-wal", "x-shm"}
    assert {each.stat().st_uid for each in path.parent.iterdir()} == {0}
    assert {each.stat().st_mode & 0o777 for each in path.parent.iterdir()} == {0o600}
    assert not read(path).closed
    file.close()
    assert read(path).closed
    assert [each.name for each in path.parent.iterdir()] == ["x"]


@pytest.mark.timeout(20)
def test_a_pipe_of_another_user_is_not_written_to(folders: Folders) -> None:
    """It is not opened either: that waits for a reader."""
    pipe = folders.attackers / "folder" / "x"
    os.mkfifo(pipe)
    os.chown(pipe, NOBODY, NOBODY)
    with pytest.raises(CowtraceError, match="is another user's"):
        output(pipe)


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def test_without_privileges_a_recording_needs_a_folder_that_others_cannot_exchange(
    folders: Folders,
) -> None:
    folder = folders.attackers / "folder"
    with as_user(NOBODY):
        record(folder / "mine")
    folders.attackers.chmod(0o777)
    with as_user(NOBODY), pytest.raises(CowtraceError, match="another user can exchange files"):
        record(folder / "x")
    folders.attackers.chmod(0o1777)
    with as_user(NOBODY):
        record(folder / "y")
    os.chown(folders.attackers, 1, 1)
    with as_user(NOBODY), pytest.raises(CowtraceError, match="another user can exchange files"):
        record(folder / "z")
    assert {each.name for each in folder.iterdir()} == {"mine", "y"}


def test_a_recording_is_read_from_a_place_of_ones_own(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By `sudo -E`, TMPDIR can be another user's."""
    monkeypatch.setenv("TMPDIR", str(folders.attackers / "folder"))
    before = (folders.attackers / "folder").stat().st_mtime_ns
    assert read(write(tmp_path / "f")).closed
    assert (folders.attackers / "folder").stat().st_mtime_ns == before
