"""Compiled programs to bytes and back, kept in files that are not trusted blindly."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowtrace import cache as kept
from cowtrace.kernel.plan import ProbePlan
from cowtrace.kernel.programs import MapSpec
from cowtrace.tracer import loader
from cowtrace.tracer.compiled import Compiled, with_kfuncs, with_maps

SUMS = MapSpec("sums", 5, 16, 16, 65536, 0)
RING = MapSpec("events", 27, 0, 0, 4096, 0)


def instruction(operation: int, source: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhi", operation, source << 4 | 1, 0, immediate)


def load_map(number: int) -> bytes:
    """r1 = map: two instructions, the second one with the upper half."""
    return instruction(0x18, 1, number) + instruction(0)


EXIT = instruction(0x95)
PROGRAMS = Compiled((SUMS, RING), (("raw_tracepoint__x", load_map(1) + EXIT), ("y", EXIT)))
DATA = PROGRAMS.to_bytes()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def stored() -> Path:
    kept.write("key", DATA)
    return kept.folder() / "key"


@given(st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=64)), max_size=4))
def test_to_bytes_and_back(programs: list[tuple[str, bytes]]) -> None:
    compiled = Compiled((SUMS, RING), tuple(programs))
    assert Compiled.from_bytes(compiled.to_bytes()) == compiled


def test_maps_get_another_number_and_nothing_else_changes() -> None:
    helper = instruction(0x85, 0, 7)
    constant = instruction(0x18, 0, 7) + instruction(0, 0, 7)
    code = load_map(7) + helper + constant + load_map(8) + EXIT
    moved = with_maps(code, {7: 23, 8: 509}.__getitem__)
    assert moved == load_map(23) + helper + constant + load_map(509) + EXIT


@pytest.mark.parametrize(("operation", "source"), [(0x18, 2), (0x85, 1)])
def test_what_exists_only_where_it_was_loaded_is_refused(operation: int, source: int) -> None:
    with pytest.raises(ValueError, match="instruction 1"):
        with_maps(EXIT + instruction(operation, source), lambda number: number)


def test_marked_calls_become_calls_of_kernel_functions() -> None:
    helper, constant = instruction(0x85, 0, 14), instruction(0xB7, 0, 0x40000007)
    marked = struct.pack("<BBhi", 0x85, 0, 0, 0x40000000 | 65477)
    call = struct.pack("<BBhi", 0x85, 2 << 4, 0, 65477)
    code = with_kfuncs(helper + constant + marked + EXIT)
    assert code == helper + constant + call + EXIT
    assert with_maps(code, lambda number: number) == code


def test_what_is_kept_comes_back_and_is_for_its_owner_only() -> None:
    path = stored()
    assert kept.read("key") == DATA
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]  # nothing half-written beside it
    assert kept.read("another key") is None


@given(st.integers(min_value=0), st.integers(0, 7))
def test_a_changed_bit_is_noticed(at: int, bit: int) -> None:
    path = stored()
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    assert kept.read("key") is None


@given(st.integers(min_value=0))
def test_a_part_of_it_is_no_use(length: int) -> None:
    path = stored()
    data = path.read_bytes()
    path.write_bytes(data[: length % len(data)])
    assert kept.read("key") is None


def test_one_key_does_not_answer_for_another() -> None:
    stored().rename(kept.folder() / "other")
    assert kept.read("other") is None


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o660])
def test_a_file_that_others_can_get_at_is_not_taken(mode: int) -> None:
    stored().chmod(mode)
    assert kept.read("key") is None


def test_a_file_of_another_user_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    stored()
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    assert kept.read("key") is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path = stored()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert kept.read("key") is None


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    kept.write("key", DATA)
    kept.forget("key")
    assert kept.read("key") is None


def test_those_unused_for_longest_go() -> None:
    for number in range(40):
        kept.write(f"{number}", DATA)
        os.utime(kept.folder() / f"{number}", (number, number))
    assert kept.read("8") == DATA  # used again
    kept.write("last", DATA)
    left = {path.name for path in kept.folder().iterdir()}
    assert len(left) == 32
    assert {"8", "39", "last"} <= left
    assert "9" not in left


def test_a_key_depends_on_every_part_and_where_it_ends() -> None:
    assert len({kept.key("a", "bc"), kept.key("ab", "c"), kept.key("a", "b", "c")}) == 3


def test_what_this_kernel_does_not_take_is_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stored()

    def refuse(plan: ProbePlan, compiled: Compiled) -> None:
        assert compiled == PROGRAMS
        raise OSError("refused")

    monkeypatch.setattr(loader, "Direct", refuse)
    assert loader._kept(ProbePlan("kprobe", (), {}, frozenset(), ()), "key") is None
    assert kept.read("key") is None
