"""Attack the long-lived commands for half a minute; make attack does so for ten."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from attack import surroundings
from attack.attacker import Attacker, NoCompiler, compiled
from attack.catalogue import ATTACKS
from attack.session import Session

pytestmark = [pytest.mark.host, pytest.mark.alone, pytest.mark.usefixtures("can_trace")]

# make attack runs all of them, each alone.
CHOSEN = (
    "perf map: a pipe",
    "perf map: 10 GB, sparse",
    "perf map for another's process",
    "debug link to a pipe",
    "debug link to root's file",
    "x.so (deleted) is a pipe",
    "own library truncated",
    "ELF: names",
    "ELF: endless frames",
    "stack and frame pointers of any value",
    "PROT_NONE memory, written remotely",
    "slowloris: 200 connections",
)
GROUPS = 4
SECONDS = 2.0  # each
PATIENCE = 5.0  # other tests run at the same time


@pytest.fixture
def folder() -> Iterator[Path]:
    """The attacker must get into it: pytest's own folders are for one user."""
    with tempfile.TemporaryDirectory(prefix="cowtrace-attack.") as found:
        Path(found).chmod(0o755)
        yield Path(found)


def test_commands_live_answer_and_count_right_beside_attacks(folder: Path) -> None:
    chosen = [attack for attack in ATTACKS if attack.name in CHOSEN]
    assert len(chosen) == len(CHOSEN)
    try:
        with Session(folder, patience=PATIENCE) as session:
            results = [session.run(chosen[turn::GROUPS], SECONDS) for turn in range(GROUPS)]
            results.append(session.end())
    except NoCompiler as error:
        pytest.skip(str(error))
    assert [problem for result in results for problem in result.problems] == []
    assert all(result.copies for result in results[:-1])


@pytest.fixture
def attacker(folder: Path) -> Iterator[Attacker]:
    try:
        compiled("race", folder)
    except NoCompiler as error:
        pytest.skip(str(error))
    with Attacker(folder) as user:
        yield user


@pytest.mark.parametrize("name", surroundings.NAMES)
def test_a_command_survives_hostile_surroundings(
    name: str, folder: Path, attacker: Attacker
) -> None:
    assert surroundings.problems(name, folder, attacker) == []
