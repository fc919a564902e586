"""Perf maps: what names an address, and what a growing file costs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cowtrace.symbolizer.perf_map import PerfMap, PerfMaps

TEXT = "7f00 20 py::touch:/app/worker.py\n7f40 10 py::main:/app/a b.py\nnot a line\n"
ME = (23, 1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "perf-23.map"
    path.write_text(TEXT)
    return path


def opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0x7EFF, ""),
        (0x7F00, "py::touch:/app/worker.py"),
        (0x7F1F, "py::touch:/app/worker.py"),
        (0x7F20, ""),
        (0x7F4F, "py::main:/app/a b.py"),
        (0x7F50, ""),
    ],
)
def test_an_address_is_named(file: Path, address: int, name: str) -> None:
    assert PerfMap(opened(file)).name(address) == name


def test_what_was_added_is_read_and_nothing_twice(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = PerfMap(opened(file))
    assert known.name(0x9000) == ""
    with file.open("a") as stream:
        stream.write("9000 8 py::later:x\n7f00 20 again\n")
    read: list[int] = []
    pread = os.pread

    def noted(fd: int, size: int, at: int) -> bytes:
        read.append(at)
        return pread(fd, size, at)

    monkeypatch.setattr(os, "pread", noted)
    assert known.name(0x9000) == "py::later:x"
    assert read == [len(TEXT)]
    assert known.name(0x7F00) == "again"  # a later line takes the place of an earlier one


def test_a_line_is_whole_before_it_counts(file: Path) -> None:
    known = PerfMap(opened(file))
    for part in ("90", "00 8 f", "oo\n"):
        assert known.name(0x9000) == ""
        with file.open("a") as stream:
            stream.write(part)
    assert known.name(0x9000) == "foo"


def test_a_sparse_file_of_terabytes_takes_neither_time_nor_memory(tmp_path: Path) -> None:
    path = tmp_path / "perf-23.map"
    path.write_text(TEXT)
    os.truncate(path, 10 << 40)
    known = PerfMap(opened(path))
    assert known.name(0x7F00) == "py::touch:/app/worker.py"
    assert known._read == 32 << 20


def test_the_file_is_asked_for_once_a_round_and_may_be_another(file: Path) -> None:
    asked: list[int] = []

    def open_(kind: str, index: int) -> int:
        assert kind == "perf-map"
        asked.append(index)
        return opened(file)

    maps = PerfMaps()
    for _ in range(3):
        assert maps.name(0x7F00, ME, 2, 1, open_).startswith("py::touch")
    file.unlink()
    file.write_text("7f00 20 other\n")
    assert maps.name(0x7F00, ME, 2, 2, open_) == "other"
    assert asked == [2, 2]
    maps.close()


def test_there_may_be_none() -> None:
    assert PerfMaps().name(0x7F00, ME, 0, 1, lambda *_: None) == ""
