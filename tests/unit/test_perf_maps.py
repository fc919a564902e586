"""Perf maps: what names an address, and whose files are believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowtrace.tracer.perf_maps import PerfMaps, _parse

ME = os.getpid()
TEXT = "7f00 20 py::touch:/app/worker.py\n7f40 10 py::main:/app/a b.py\nnot a line\n"


def write(folder: Path, text: str, pid: int = ME) -> Path:
    path = folder / f"perf-{pid}.map"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0x7EFF, None),
        (0x7F00, "py::touch:/app/worker.py"),
        (0x7F1F, "py::touch:/app/worker.py"),
        (0x7F20, None),
        (0x7F4F, "py::main:/app/a b.py"),
        (0x7F50, None),
    ],
)
def test_an_address_is_named(tmp_path: Path, address: int, name: str | None) -> None:
    write(tmp_path, TEXT)
    assert PerfMaps(tmp_path).name(ME, address) == name


def test_what_was_added_is_read(tmp_path: Path) -> None:
    write(tmp_path, TEXT)
    maps = PerfMaps(tmp_path)
    assert maps.name(ME, 0x9000) is None
    write(tmp_path, TEXT + "9000 8 py::later:x\n")
    assert maps.name(ME, 0x9000) == "py::later:x"


def test_there_may_be_none(tmp_path: Path) -> None:
    assert PerfMaps(tmp_path).name(ME, 0x7F00) is None
    assert PerfMaps(tmp_path).name(4_000_000_000, 0x7F00) is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(TEXT)
    (tmp_path / f"perf-{ME}.map").symlink_to(secret)
    assert PerfMaps(tmp_path).name(ME, 0x7F00) is None


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"perf-{ME}.map")
    assert PerfMaps(tmp_path).name(ME, 0x7F00) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_not_believed(tmp_path: Path) -> None:
    os.chown(write(tmp_path, TEXT), 65534, 65534)
    assert PerfMaps(tmp_path).name(ME, 0x7F00) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_taken(text: bytes) -> None:
    found = _parse(len(text), text)
    assert list(found.starts) == sorted(found.starts)
    assert len(found.entries) == len(found.starts)
