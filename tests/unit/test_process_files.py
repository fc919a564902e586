"""Files of traced processes are opened only if they are what they should be, and in time."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from threading import Event

import pytest

from cowtrace.tracer import process_files
from cowtrace.tracer.process_files import in_time, perf_map

ME = os.getpid()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of /tmp, for maps by host PID."""
    monkeypatch.setattr(process_files, "_TMP", str(tmp_path))
    return tmp_path


def opened(pid: int = ME, uid: int | None = os.getuid()) -> str | None:
    """The content of a process's perf map."""
    fd = in_time(lambda: perf_map(pid, uid))
    if fd is None:
        return None
    with open(fd) as file:  # noqa: PTH123
        return file.read()


def test_a_perf_map_is_found_by_the_host_pid(folder: Path) -> None:
    (folder / f"perf-{ME}.map").write_text("text")
    assert opened() == "text"


def test_in_its_own_tmp_it_is_found_by_the_pid_there() -> None:
    path = Path(f"/tmp/perf-{ME}.map")
    path.write_text("text")
    try:
        assert opened() == "text"
    finally:
        path.unlink()


def test_a_link_is_not_followed(folder: Path) -> None:
    (folder / "secret").write_text("text")
    (folder / f"perf-{ME}.map").symlink_to(folder / "secret")
    assert opened() is None


def test_a_pipe_is_not_even_opened(folder: Path) -> None:
    path = folder / f"perf-{ME}.map"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    os.write(writer, b"text")
    assert opened() is None
    assert os.read(writer, 9) == b"text"
    os.close(writer)


def test_neither_is_a_device(folder: Path) -> None:
    path = folder / f"perf-{ME}.map"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")
    assert opened() is None


def test_another_users_file_is_not_believed(folder: Path) -> None:
    (folder / f"perf-{ME}.map").write_text("text")
    if os.getuid():
        assert opened(uid=os.getuid() + 1) is None
    else:  # root's files are believed
        os.chown(folder / f"perf-{ME}.map", 65534, 65534)
        assert opened(uid=1) is None
        assert opened(uid=65534) == "text"


def test_a_debug_file_has_a_name_of_digits_only() -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        process_files.debug_file("ab/../../../etc/passwd")


def test_a_file_system_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_files, "_SECONDS", 0.05)
    answers = Event()
    began = time.monotonic()
    for _ in range(process_files._MOST_STUCK + 5):
        assert in_time(answers.wait) is None
    assert len(process_files._stuck) == process_files._MOST_STUCK
    assert time.monotonic() - began < 5
    answers.set()
    for thread in list(process_files._stuck):
        thread.join(timeout=30)
    monkeypatch.setattr(process_files, "_SECONDS", 30)
    assert in_time(lambda: 23) == 23


def test_an_error_is_none() -> None:
    assert in_time(lambda: 1 // 0) is None
