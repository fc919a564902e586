"""`cowtrace try`: which runs it makes, and what it does with what they come to."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_recordings import write

sys.path.insert(0, str(Path(__file__).parents[1]))

from schema_checks import check

from cowtrace import child
from cowtrace.analysis.trials import Peak
from cowtrace.cli import main, try_
from cowtrace.cli.peak import Sampler
from cowtrace.cli.recorded_run import Interrupted, Settings, record_run
from cowtrace.cli.signals import Held, held
from cowtrace.cli.variants import Variant, from_command, from_file
from cowtrace.errors import EXIT_FAILURE, EXIT_NO_PLAN, EXIT_NOT_FOUND, EXIT_USAGE, CowtraceError
from cowtrace.recording import Recording
from cowtrace.recording.reader import read
from cowtrace.remedies import parse

SETTINGS = Settings("auto", None, show_output=False, ignore_failure=False)


@dataclass
class Runs:
    """Takes the place of record_run: variant B, and gc-freeze, copy half of what others do."""

    stop: Exception | None = None  # raised in place of run `stop_at`
    stop_at: int = -1
    done: list[str] = field(default_factory=list)
    variables: list[Mapping[str, str]] = field(default_factory=list)

    def __call__(
        self, name: str, command: Sequence[str], file: Path, variables: Mapping[str, str],
        settings: Settings, held: Held,
    ) -> tuple[Recording, Peak]:  # fmt: skip
        if self.stop and len(self.done) == self.stop_at:
            raise self.stop
        self.done.append(name)
        self.variables.append(variables)
        write(file, scale=1 if name in ("B", "gc-freeze") else 2, intervals=2)
        return read(file), Peak(1 << 20, 1 << 19)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Runs:
    pytest.importorskip("scipy", reason="scipy is not installed: pip install scipy")
    runs = Runs()
    monkeypatch.setattr(try_, "record_run", runs)
    return runs


def tried(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["try", *arguments])


def test_each_block_has_each_variant_and_the_seed_repeats_the_order(made: Runs) -> None:
    arguments = ("--seed", "4", "--runs", "6", "--warm-up", "2", "--", "true", "--", "sh", "-c", "")
    first = tried(*arguments)
    order, made.done = made.done, []
    assert tried(*arguments).stdout == first.stdout
    assert made.done == order
    assert len(order) == 2 * (6 + 2)
    blocks = [tuple(order[at : at + 2]) for at in range(0, len(order), 2)]
    assert set(blocks) == {("A", "B"), ("B", "A")}
    assert first.stdout.startswith("B copied 50.0% less (at least 50.0%) than A; ")
    assert "6 runs of each, in random order (--seed 4), after 2 warm-up." in first.stdout
    assert "\nA: true\nB: sh -c ''\n" in first.stdout
    assert "cowtrace: run 1 of 16: " in first.stderr


def test_json_is_as_the_schema_says_and_csv_has_a_row_a_measure(made: Runs) -> None:
    arguments = ("--with", "gc-freeze", "--with", "thp=never", "--", "true")
    shown = tried("--json", *arguments).stdout
    assert check("try", [shown]) == 1
    found = json.loads(shown)
    assert [each["name"] for each in found["variants"]] == ["plain", "gc-freeze", "thp=never"]
    assert found["variants"][1]["remedies"] == ["gc-freeze"]
    assert [len(each["runs"]) for each in found["variants"]] == [7, 7, 7]
    half, same = found["comparisons"]
    assert (half["measures"][0]["change"], half["measures"][0]["is_shown"]) == (-0.5, True)
    assert (same["measures"][0]["change"], same["measures"][0]["is_shown"]) == (0, False)
    assert found["doubts"] == [
        "gc-freeze was never applied: no Python process forked by os.fork(), or they ignore "
        "PYTHONPATH (-I, -E)."
    ]
    rows = tried("--csv", *arguments).stdout.splitlines()
    assert len(rows) == 1 + 2 * len(half["measures"])
    assert rows[1].startswith("plain,gc-freeze,copied,bytes,")


def test_only_the_remedy_differs_in_the_environment(made: Runs) -> None:
    tried("--with", "gc-freeze", "--", "true")
    plain = {tuple(v) for n, v in zip(made.done, made.variables, strict=True) if n == "plain"}
    other = {tuple(v) for n, v in zip(made.done, made.variables, strict=True) if n != "plain"}
    assert plain == other
    assert {v["COWTRACE_REMEDIES"] for v in made.variables} == {"gc-freeze", ",,,,,,,,,"}


def test_ctrl_c_shows_what_is_there(made: Runs) -> None:
    made.stop, made.stop_at = Interrupted(signal.SIGINT), 2 * (1 + 5)
    ended = tried("--", "true", "--", "false")
    assert ended.exit_code == 128 + signal.SIGINT
    assert "B copied 50.0% less" in ended.stdout
    assert "5 runs of each" in ended.stdout
    made.stop_at, made.done = 3, []
    ended = tried("--", "true", "--", "false")
    assert (ended.exit_code, ended.stdout) == (128 + signal.SIGINT, "")
    assert "interrupted before each variant had a counted run" in ended.stderr


def test_a_failed_run_ends_it_after_what_is_there(made: Runs) -> None:
    made.stop, made.stop_at = CowtraceError("B failed", hint="look"), 2 * (1 + 3)
    ended = tried("--", "true", "--", "false")
    assert ended.exit_code == EXIT_FAILURE
    assert ended.stdout.startswith("B against A: too few runs to tell.")
    assert ended.stderr.endswith("cowtrace: B failed\nHint: look\n")


def test_recordings_are_kept_in_a_folder_of_their_own(made: Runs, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    arguments = ("--runs", "5", "--save", str(kept), "--", "true", "--", "false")
    assert tried(*arguments).exit_code == 0
    names = {path.name for path in kept.iterdir()}
    assert names == {f"{block:03}-{name}.cow" for block in range(6) for name in "AB"}
    again = tried(*arguments)
    assert again.exit_code == EXIT_FAILURE
    assert "is not empty" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--", "true"], EXIT_USAGE, "nothing to compare"),
        ([], EXIT_USAGE, "nothing to compare"),
        (["--with", "gc-freeze"], EXIT_USAGE, "--with compares a COMMAND with itself"),
        (["--file", "f", "--", "true"], EXIT_USAGE, "--file cannot be combined"),
        (["--file", "no such file"], EXIT_USAGE, "cannot read variants from no such file"),
        (["--with", "gc-freez", "--", "true"], EXIT_USAGE, "did you mean gc-freeze? "),
        (["--", "true", "--", "no-such-command"], EXIT_NOT_FOUND, "command not found"),
        (["--runs", "4", "--", "true", "--", "true"], EXIT_USAGE, "4 is not in the range"),
    ],
)
def test_wrong_usage_runs_nothing(made: Runs, arguments: list[str], code: int, said: str) -> None:
    ended = tried(*arguments)
    assert ended.exit_code == code
    assert said in ended.stderr
    assert made.done == []


def test_commands_are_parted_by_dashes() -> None:
    assert from_command(["a", "-x", "--", "b", "--", "c"]) == (
        Variant("A", ("a", "-x")),
        Variant("B", ("b",)),
        Variant("C", ("c",)),
    )


def test_a_file_names_variants(tmp_path: Path) -> None:
    file = tmp_path / "variants.toml"
    file.write_text('plain = "./job --name \'a b\'"\n[fixed]\ncommand = ["./job"]\n'
                    'with = "gc-freeze,os-exit"\n')  # fmt: skip
    assert from_file(file) == (
        Variant("plain", ("./job", "--name", "a b")),
        Variant("fixed", ("./job",), parse("gc-freeze,os-exit")),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"../a" = "true"', "letters, digits"),
        ("a = 1", "a needs a command"),
        ('a = ""', "a needs a command"),
        ("a = [1]", "a needs a command"),
        ("[a]\nwith = 'os-exit'", "a needs a command"),
        ("[a]\ncommand = 'x'\nenv = 'y'", "a has an unknown key: env"),
        ("[a]\ncommand = 'x'\nwith = ['y']", "with is a text"),
        ('a = "\'"', "No closing quotation"),
        ("a = ", "Invalid value"),
        ("a = 'x'\n[b]\ncommand='x'\nwith='y'", "no remedy is named y"),
    ],
)
def test_a_wrong_file_is_two_lines(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "f"
    file.write_text(text)
    with pytest.raises(CowtraceError, match=said):
        from_file(file)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A shell script in place of `cowtrace record`: COMMAND is what it runs, FILE is $1."""
    started: list[list[str]] = []

    def command(module: str, *arguments: str) -> list[str]:
        started.append([*arguments])
        return ["/bin/sh", "-c", arguments[-1], "sh", arguments[2]]

    monkeypatch.setattr(child, "command", command)
    return started


def recorded(folder: Path, script: str, settings: Settings = SETTINGS) -> tuple[Recording, Peak]:
    """A run of the script. $2 is a recording."""
    made = write(folder / "made", intervals=2)
    with held(signal.SIGINT, signal.SIGTERM, signal.SIGCHLD) as signals:
        return record_run("B", ["./job", script.replace("$2", str(made))], folder / "001-B.cow",
                          {"NAME": "value"}, settings, signals)  # fmt: skip


def test_a_run_is_recorded_with_its_peak_and_its_variables(
    tmp_path: Path, recorder: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Sampler.look

    def look(sampler: Sampler) -> None:
        take(sampler)
        if sampler.peak.private:
            (tmp_path / "001-B.cow.seen").touch()

    monkeypatch.setattr(Sampler, "look", look)
    wait = 'until [ -e "$1.seen" ]; do sleep 0.05; done & wait'  # sampled meanwhile
    script = f'[ "$NAME" = value ] || exit 9; cp $2 "$1"; {wait}'
    found, peak = recorded(tmp_path, script, Settings("kprobe", "nobody", False, False))
    assert found.header.command == "./job"
    assert (peak.pss or 0) > (peak.private or 0) > 0
    (arguments,) = recorder
    assert arguments[:6] == ["record", "-o", str(tmp_path / "001-B.cow"), "--no-stacks",
                             "--no-mappings", "--no-hint"]  # fmt: skip
    assert arguments[6:11] == ["--attach", "kprobe", "--user", "nobody", "--"]


@pytest.mark.usefixtures("recorder")
def test_a_command_that_failed_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    script = 'cp $2 "$1"; for n in 1 2 3 4 5 6 7; do echo "line $n" >&2; done; exit 7'
    with pytest.raises(CowtraceError, match="B failed with exit code 7\n  line 3\n") as raised:
        recorded(tmp_path, script)
    assert "--ignore-failure" in raised.value.hint
    (tmp_path / "001-B.cow").unlink()
    tolerant = Settings("auto", None, show_output=False, ignore_failure=True)
    (tmp_path / "made").unlink()
    assert recorded(tmp_path, script, tolerant)[0].header.command == "./job"
    assert not [*tmp_path.glob("*.stderr")]


@pytest.mark.usefixtures("recorder")
def test_a_recorder_that_failed_says_why(tmp_path: Path) -> None:
    script = f"echo 'cowtrace: no plan\nHint: use a VM' >&2; exit {EXIT_NO_PLAN}"
    with pytest.raises(CowtraceError, match="cannot record B: no plan") as raised:
        recorded(tmp_path, script)
    assert (raised.value.hint, raised.value.exit_code) == ("use a VM", EXIT_NO_PLAN)


@pytest.mark.usefixtures("recorder")
def test_a_signal_ends_the_recorder_and_then_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_: Sampler) -> None:  # to this thread: a library's may not block the signal
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    monkeypatch.setattr(Sampler, "look", look)
    script = "trap 'exit 3' TERM; while :; do sleep 0.05; done"
    with pytest.raises(Interrupted) as raised:
        recorded(tmp_path, script)
    assert raised.value.signal == signal.SIGTERM
