"""Anything at all, read: it is understood or refused, and acts on nothing.

A short run by itself; `make fuzz` tries COWTRACE_FUZZ cases of each.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner
from fuzzing import fuzzed, hostile, scratch
from hypothesis import given
from hypothesis import strategies as st
from made_recordings import answered_or_refused, write
from rich.cells import cell_len

from cowtrace import cli, errors, text, tracer
from cowtrace.cli import cgroups
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.symbolizer.mapped_file import MappedFile
from cowtrace.symbolizer.memory_limit import MemoryLimit
from cowtrace.symbolizer.memory_map import MemoryMap
from cowtrace.symbolizer.perf_map import PerfMap

CODES = {value for name, value in vars(errors).items() if name.startswith("EXIT_")} | {0}
# Commands that attach before they do anything else; here none can be attached.
COMMANDS = (
    *("top", "run", "forks", "maps", "stacks", "latency", "snoop", "record", "workload"),
    *("report", "diff", "completion", "verify"),
)
WORDS = (
    *("-p", "--pid", "--follow", "--comm", "--cgroup", "--kind", "--json", "--csv", "--attach"),
    *("--by", "--rows", "--pages", "-o", "-v", "--html", "--for", "--interval", "--list", "--"),
    *("1", "0", "-1", "0.5", "nan", "inf", "1e400", "auto", "kprobe", "copied", "mapping", "x.cow"),
)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "whole.cow"
    write(path)
    return path


@fuzzed
@given(
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), hostile, st.binary()),
)
def test_a_recording_of_other_values(
    recording: Path, table: int, column: int, value: object
) -> None:
    changed = recording.with_name("changed.cow")
    changed.write_bytes(whole(recording))
    with sqlite3.connect(changed) as file:
        tables = [
            name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        chosen = tables[table % len(tables)]
        columns = [row[1] for row in file.execute(f"PRAGMA table_info({chosen})")]
        try:
            file.execute(
                f"UPDATE {chosen} SET {columns[column % len(columns)]} = ?"
                " WHERE rowid IN (SELECT rowid FROM "
                f"{chosen} LIMIT 3)",
                (encodable(value),),
            )
        except sqlite3.Error:
            return  # a constraint of the schema
    file.close()
    answered_or_refused(changed)


@fuzzed
@given(st.one_of(st.binary(), st.text().map(str.encode)), st.integers(0, 2**64))
def test_a_perf_map(content: bytes, address: int) -> None:
    found = PerfMap(memory_file(content))
    assert isinstance(found.name(address).encode(), bytes)  # no lone surrogates
    found.close()


@fuzzed
@given(st.binary(max_size=300))
def test_mappings_of_a_process(content: bytes) -> None:
    MemoryMap(content).at(0x1000)


@fuzzed
@given(st.one_of(st.binary(), st.binary().map(lambda rest: b"\x7fELF\x02\x01" + rest)))
def test_the_head_of_a_mapped_file(content: bytes) -> None:
    with suppress(ValueError, OSError):
        file = MappedFile(
            memory_file(content), lambda build_id: None, MemoryLimit(lambda limit: None)
        )
        file.virtual_address(0)
        file.close()


def memory_file(content: bytes) -> int:
    fd = os.memfd_create("input")
    os.pwrite(fd, content, 0)
    return fd


@fuzzed
@given(st.text(st.characters(codec=None)))
def test_mounts(content: str) -> None:
    for root in cgroups._roots(content):
        assert isinstance(root, Path)
    for root in cgroups._roots(f"36 35 98:0 /r {content} rw - cgroup2 none rw\n"):
        assert isinstance(root, Path)


@fuzzed
@given(st.text(st.characters(codec=None)), st.integers(2, 90))
def test_names_in_a_table(name: str, cells: int) -> None:
    shown = text.printable(name)
    assert shown.isprintable() or not shown
    assert "\x1b" not in shown
    assert bool(shown) is bool(name)
    shown.encode()  # no lone surrogates
    for fitted in (text.fit(shown, cells), text.fit_end(shown, cells)):
        assert cell_len(fitted) <= cells


@fuzzed
@given(
    st.sampled_from(COMMANDS),
    st.lists(st.one_of(st.sampled_from(WORDS), hostile), max_size=6),
)
def test_the_command_line(command: str, arguments: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(scratch())
        patch.setattr(tracer, "attach", refuse)
        try:
            ended = CliRunner().invoke(cli.main, [command, *arguments])
        except UnicodeEncodeError:
            return  # of the runner's own output file
    assert ended.exit_code in CODES, (ended.output, ended.exception)
    assert ended.exception is None or isinstance(ended.exception, SystemExit | CowtraceError), (
        ended.exception
    )


def refuse(*arguments: object, **options: object) -> None:
    raise CowtraceError("no", hint="no", exit_code=EXIT_NO_PLAN)


def encodable(value: object) -> object:
    return value.encode(errors="surrogatepass") if isinstance(value, str) else value


@cache
def whole(recording: Path) -> bytes:
    return recording.read_bytes()
