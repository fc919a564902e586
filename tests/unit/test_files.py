"""Output files: private, whole, and not through another user's link."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cowtrace.errors import CowtraceError
from cowtrace.files import private_file


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("old")
    file.chmod(0o666)
    os.umask(os.umask(0))
    with private_file(str(file)) as stream:
        stream.write("nëw\udcff")
        assert file.read_text() == "old"  # until it is whole
    assert file.read_bytes() == "nëw\\udcff".encode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["out"]  # noqa: PTH208


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError), private_file(str(file)) as stream:
        stream.write(str(1 // 0))
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_own_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with private_file(str(tmp_path / "link")) as stream:
        stream.write("x")
    assert (tmp_path / "file").read_text() == "x"
    assert (tmp_path / "link").is_symlink()


def test_a_link_of_another_user_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "file")
    if os.geteuid() == 0:
        os.lchown(link, 65534, 65534)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 1)
    with pytest.raises(CowtraceError, match="link of another user"), private_file(str(link)):
        pytest.fail("opened")
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("name", ["no/such/folder", "."])
def test_bad_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CowtraceError, match="cannot write"), private_file(name):
        pytest.fail("opened")


def test_a_device_is_written_to_as_it_is() -> None:
    with private_file("/dev/null") as stream:
        stream.write("x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_full_disk() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with pytest.raises(CowtraceError, match="No space left"), private_file("/dev/full") as stream:
        stream.write("x" * 100_000)


def test_an_open_descriptor_is_written_to_as_it_is(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with (tmp_path / "file").open("w") as file:
        for fd in (writer, file.fileno()):
            with private_file(f"/dev/fd/{fd}") as stream:
                stream.write("x")
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "x"
    assert (tmp_path / "file").read_text() == "x"
