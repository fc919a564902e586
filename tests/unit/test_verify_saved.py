"""The file of --baseline: written and read back; as hostile input refused in two lines."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from made_checks import HOSTILE, check, count

sys.path.insert(0, str(Path(__file__).parents[1]))

from schema_checks import check as check_schema

from cowtrace.errors import CowtraceError
from cowtrace.verify import saved
from cowtrace.verify.check import Verdict
from cowtrace.verify.matrix import KernelChecks
from cowtrace.workloads.outcome import Evidence

SMAPS = Evidence("smaps", "KernelPageSize of the memory, in kB:", 4, 4, True)
FULL = check(
    name=HOSTILE,
    verdict=Verdict.FAILS,
    counts=(count(), count("reused", None, expected=None), count("shared", upper_bound=True)),
    evidence=(SMAPS, Evidence("rusage", "page faults", 23, 23, True)),
    findings=("only re-marked", HOSTILE),
)
KERNELS = (
    KernelChecks("6.12", (FULL, check(verdict=Verdict.UNSEEN, pages=None)), ("6.12: exactly",)),
    KernelChecks("7.2", (), ()),
)
TEXT = saved.text_of(KERNELS)


def test_it_is_what_the_schema_says() -> None:
    assert check_schema("verify-matrix", [TEXT]) == 1


def test_what_is_written_is_read_back() -> None:
    one, other = saved.parse(TEXT.encode())
    assert (one.kernel, one.versions, other) == ("6.12", ("6.12: exactly",), KERNELS[1])
    read = one.checks[0]
    assert (read.name, read.verdict, read.why) == (HOSTILE, Verdict.FAILS, "the reason")
    assert (read.counts, read.findings, read.pages) == (FULL.counts, FULL.findings, FULL.pages)
    assert [(each.oracle, each.observed) for each in read.evidence] == [("smaps", 4)]
    assert saved.text_of(saved.parse(TEXT.encode())) == TEXT


def test_two_runs_write_the_same() -> None:
    again = KernelChecks("7.2", (check(seconds=9.9, evidence=()),), ())
    assert saved.text_of([again]) == saved.text_of([KernelChecks("7.2", (check(),), ())])


def changed(path: str, value: Any) -> bytes:
    """The file with another value at `kernels.0.name`."""
    whole = json.loads(TEXT)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = whole
    for part in way:
        place = place[part]
    place[last] = value
    return json.dumps(whole).encode()


REFUSED = {
    "not JSON": b"{",
    "not text": b"\xff\xfe",
    "nothing": b"",
    "a list": b"[]",
    "nested": b"[" * 1_000_000,
    "no kernels": b'{"format": "cowtrace verify matrix", "version": 1}',
    "another file": changed("format", "cowtrace"),
    "a newer version": changed("version", 2),
    "a version that is no number": changed("version", True),
    "a kernel twice": changed("kernels.1.name", "6.12"),
    "a kernel that is none": changed("kernels.0", 7),
    "a name that is no text": changed("kernels.0.checks.0.name", ["x"]),
    "an unknown verdict": changed("kernels.0.checks.0.verdict", "perhaps"),
    "a verdict that is none": changed("kernels.0.checks.0.verdict", {}),
    "a negative count": changed("kernels.0.checks.0.counts.0.traced", -1),
    "a count without end": changed("kernels.0.checks.0.counts.0.traced", 1 << 80),
    "a count of yes": changed("kernels.0.checks.0.counts.0.traced", True),
    "a bound that is no bound": changed("kernels.0.checks.0.counts.0.upper_bound", 1),
    "sources that are text": changed("kernels.0.checks.0.counts.0.sources", "anon"),
    "blind by a number": changed("kernels.0.checks.0.blind", 0),
    "an endless number": changed("kernels.0.checks.0.evidence.0.observed", 1 << 80),
    "infinite": TEXT.replace('"observed": 4', '"observed": 1e999').encode(),
    "not a number": TEXT.replace('"observed": 4', '"observed": NaN').encode(),
    "digits": b'{"format": ' + b"9" * 100_000 + b"}",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cowtrace_would_not_have_written_is_refused(name: str, tmp_path: Path) -> None:
    assert REFUSED[name] != TEXT.encode()
    file = tmp_path / "a.json"
    file.write_bytes(REFUSED[name])
    with pytest.raises(CowtraceError, match="is not a matrix of cowtrace verify: ") as failure:
        saved.read(str(file))
    assert len(str(failure.value)) < 300 + len(str(file))
    assert str(failure.value).isprintable()


def test_a_missing_file_is_none(tmp_path: Path) -> None:
    assert saved.read(str(tmp_path / "a.json")) is None


def test_what_is_no_ordinary_file_is_refused_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)  # which has no writer: to read it would wait for one
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate((8 << 20) + 1)
    for path, words in (
        (fifo, "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (large, "more than 8 MiB"),
        (tmp_path, "not a regular file"),
    ):
        with pytest.raises(CowtraceError, match=words):
            saved.read(str(path))
    with pytest.raises(CowtraceError, match=r"cannot read .*: Not a directory"):
        saved.read(str(large / "a"))
