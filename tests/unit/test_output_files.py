"""Every command that writes a file: 0600, whole, and never by way of another user's link."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faked
import pytest
import warm
from click.testing import CliRunner, Result
from made_recordings import HEADER, write
from snapshots import FakeTracer, snapshot
from test_verify_command import run as run_verify

import cowtrace.tracer
from cowtrace import cli
from cowtrace.errors import EXIT_FAILURE, CowtraceError
from cowtrace.files import without_links
from cowtrace.recording.writer import Writer

NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Ended:
    """Of a command: as click's Result has it."""

    exit_code: int
    output: str


Command = Callable[[str], "Ended | Result"]


def commands(tmp_path: Path, patch: pytest.MonkeyPatch) -> dict[str, Command]:
    """The commands that write a file whose name they are given."""
    recording = write(tmp_path / "made.cow")
    patch.setattr(cowtrace.tracer, "attach", lambda *_, **__: FakeTracer(snapshot(), snapshot()))

    def cowtrace_with(*before: str, after: tuple[str, ...] = ()) -> Command:
        return lambda name: CliRunner().invoke(cli.main, [*before, name, *after])

    def traced(*before: str) -> Command:
        """A process of its own: `run` takes the signals of a whole process."""

        def run(name: str) -> Ended:
            ended = warm.run(faked.run, *before, name, "--", "true")
            return Ended(ended.returncode, ended.stdout + ended.stderr)

        return run

    stacks = ("0.05", "1")
    return {
        "record": cowtrace_with("record", "--for", "0.05", "--interval", "0.05", "-o"),
        "report --html": cowtrace_with("report", str(recording), "--html"),
        "report --trace": cowtrace_with("report", str(recording), "--trace"),
        "run": traced("run", "-q", "-o"),
        "run --json": traced("run", "-q", "--json", "-o"),
        "run --csv": traced("run", "-q", "--csv", "-o"),
        **{
            f"stacks {form}": cowtrace_with("stacks", "--format", form, "-o", after=stacks)
            for form in ("top", "folded", "speedscope", "flamegraph", "pprof")
        },
        "stacks --json": cowtrace_with("stacks", "--json", "--format", "top", "-o", after=stacks),
        "verify --html": lambda name: run_verify(patch, "--html", name),
        "verify --junit": lambda name: run_verify(patch, "--junit", name),
        "verify --ktap": lambda name: run_verify(patch, "--ktap", name),
        "verify --baseline": lambda name: run_verify(patch, "--baseline", name),
    }


NAMES = (
    *("record", "report --html", "report --trace", "run", "run --json", "run --csv"),
    *("stacks top", "stacks folded", "stacks speedscope", "stacks flamegraph", "stacks pprof"),
    *("stacks --json", "verify --html", "verify --junit"),
    *("verify --ktap", "verify --baseline"),
)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Command]:
    found = commands(tmp_path, monkeypatch)
    assert set(found) == set(NAMES)
    return found


@pytest.fixture(params=NAMES)
def command(request: pytest.FixtureRequest, work: dict[str, Command]) -> Command:
    if request.param == "report --html":
        pytest.importorskip("plotly", reason="the extra cowtrace[report] is not installed")
    return work[request.param]


def theirs(link: Path) -> None:
    """Make it another user's."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a link to another user")
    os.lchown(link, NOBODY, NOBODY)


def test_it_is_private_whatever_the_umask(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "out"
    before = os.umask(0)
    try:
        ended = command(str(file))
    finally:
        os.umask(before)
    assert ended.exit_code == 0, ended.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"out", "made.cow"}


@pytest.mark.parametrize("place", ["out", "folder/out"])
def test_a_link_of_another_user_is_refused(command: Command, tmp_path: Path, place: str) -> None:
    victims = tmp_path / "victims"
    victims.mkdir()
    (victims / "out").write_text("kept")
    link = tmp_path / Path(place).parts[0]
    link.symlink_to(victims if "/" in place else victims / "out")
    theirs(link)
    ended = command(str(tmp_path / place))
    assert ended.exit_code == EXIT_FAILURE, ended.output
    assert "\nHint: " in ended.output
    assert (victims / "out").read_text() == "kept"
    assert os.listdir(victims) == ["out"]  # noqa: PTH208


def test_own_links_lead_on_up_and_down(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "down").symlink_to("a/b")
    (tmp_path / "a" / "b" / "up").symlink_to("../..")
    (tmp_path / "round").symlink_to(tmp_path / "down" / "up")
    real = tmp_path.resolve()
    assert without_links(tmp_path / "down" / ".." / "x") == real / "a" / "x"
    assert without_links(tmp_path / "round" / "down" / "x") == real / "a" / "b" / "x"


def test_a_link_to_a_link_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").symlink_to(tmp_path / "victim")
    theirs(tmp_path / "theirs")
    (tmp_path / "mine").symlink_to(tmp_path / "theirs")
    with pytest.raises(CowtraceError, match="theirs is a link of another user"):
        without_links(tmp_path / "mine")


def test_links_without_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="Too many levels"):
        without_links(tmp_path / "a")


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
def test_what_another_user_planted_beside_a_recording_is_not_written_to(
    tmp_path: Path, end: str
) -> None:
    planted = tmp_path / f"new.cow{end}"
    planted.write_bytes(b"")
    planted.chmod(0o666)
    with pytest.raises(CowtraceError, match=f"{end} is there already"):
        Writer(tmp_path / "new.cow", HEADER)
    assert planted.read_bytes() == b""
    assert not (tmp_path / "new.cow").exists()
    Writer(tmp_path / "new.cow", HEADER, force=True).close()
    assert not planted.exists()
    assert stat.S_IMODE((tmp_path / "new.cow").stat().st_mode) == 0o600
