"""`cowtrace try`: run variants of a command in turn, and tell differences from noise."""

from __future__ import annotations

import json
import random
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from cowtrace.analysis import intervals, trials
from cowtrace.analysis.trials import Run
from cowtrace.cli import launch
from cowtrace.cli.command_user import User, user_option
from cowtrace.cli.options import Form, attach_option, form_options, usage_error
from cowtrace.cli.recorded_run import Interrupted, Settings, record_run
from cowtrace.cli.signals import held
from cowtrace.cli.trial_progress import Progress
from cowtrace.cli.variants import Variant, from_command, from_file, from_remedies
from cowtrace.errors import CowtraceError
from cowtrace.machine import trial_objects
from cowtrace.machine.csv import CsvLines
from cowtrace.remedies import WORDS, Hooks, inherited, unapplied
from cowtrace.terminal.screen import show
from cowtrace.terminal.trials import trials_text
from cowtrace.text import printable

_REMEDIES = "\n".join(f"  {name:<18}  {words}" for name, words in WORDS.items())


@click.command(
    "try",
    context_settings={"allow_interspersed_args": False},
    epilog="\b\nExamples:\n  sudo cowtrace try -- ./job --threads 1 -- ./job --threads 8\n"
    "  sudo cowtrace try --with gc-freeze -- python3 job.py\n"
    "  sudo cowtrace try --file variants.toml --runs 15 --save recordings",
    help=f"""Run variants of a command in turn, and tell differences from noise.

    Each block runs each variant once, in random order; blocks of warm-up are not counted. Each run
    is recorded, as by `cowtrace record`, in a process of its own. For each question the table has
    the means, and the difference with its confidence interval: 95 % for all rows together. If the
    interval includes 0, or less than 0.5 %: "no difference shown".

    -- A -- B compares two commands, or more. --with compares COMMAND with itself under a remedy;
    several, joined by a comma, are applied together. --file reads variants from TOML: a line NAME
    = "COMMAND" for each, or a table [NAME] with the keys command and with.

    A remedy changes the command's environment or what it inherits, because you name it. The plain
    command gets the same environment, with remedies switched off.

    \b
{_REMEDIES}

    Peak memory is sampled: the sum over all processes, shared pages once. The exit code is 0
    whatever was found, 1 if a run failed. Ctrl-C ends it with what is there, and 130. It needs
    scipy: pip install 'cowtrace[try]'.
    """,
)
@click.option("--with", "chosen", multiple=True, metavar="REMEDY",
              help="Compare COMMAND with and without it; may be given several times.")  # fmt: skip
@click.option("--file", "file", metavar="FILE", help="Read the variants from a TOML file.")
@click.option("--runs", type=click.IntRange(min=intervals.LEAST), default=7, show_default=True,
              metavar="N", help="Count N runs of each variant.")  # fmt: skip
@click.option("--warm-up", "warm_ups", type=click.IntRange(min=0), default=1, show_default=True,
              metavar="N", help="Before these, run each variant N times.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0, max=2**32 - 1), metavar="N",
              help="Repeat the random order of another trial.")  # fmt: skip
@click.option("--save", metavar="DIR", help="Keep the recordings in DIR.")
@click.option("--show-output", is_flag=True, help="Show the output of the runs, on stderr.")
@click.option("--ignore-failure", is_flag=True, help="Also count runs whose exit code is not 0.")
@user_option
@attach_option
@form_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def try_(
    chosen: tuple[str, ...],
    file: str | None,
    runs: int,
    warm_ups: int,
    seed: int | None,
    save: str | None,
    show_output: bool,
    ignore_failure: bool,
    user: User | None,
    plan: str,
    form: Form,
    command: tuple[str, ...],
) -> None:
    variants = _variants(chosen, file, command)
    for each in variants:
        launch.resolve(each.command[0], user)
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    settings = Settings(plan, user.name if user else None, show_output, ignore_failure)
    counted: dict[str, list[Run]] = {each.name: [] for each in variants}
    stopped: Exception | None = None
    with _folder(save) as (folder, kept), held(*launch.HELD) as signals:
        intervals.require()  # before the runs; signals are held from the threads that it starts
        hooks = Hooks(folder, [each.remedies for each in variants])
        progress = Progress((runs + warm_ups) * len(variants))
        try:
            for block, each in _order(variants, runs, warm_ups, seed):
                progress.show(each.name, is_counted=block > 0)
                where = kept / f"{block:03}-{each.name}.cow"
                applied = _applied(folder, variants.index(each))
                with inherited(each.remedies):
                    variables = hooks.environment(each.remedies, applied)
                    recording, peak = record_run(
                        each.name, each.command, where, variables, settings, signals
                    )
                if block > 0:
                    counted[each.name].append(trials.run_of(recording, peak, block))
                if not save:
                    where.unlink()
        except (Interrupted, CowtraceError) as reason:
            stopped = reason
        progress.end()
        missed = (
            unapplied(each.remedies, _applied(folder, at)) for at, each in enumerate(variants)
        )
        notes = [note for note in missed if note]
    if all(counted.values()):
        notes[:0] = trials.doubts(counted)
        _write(variants, counted, notes, form, seed, warm_ups, interrupted=stopped is not None)
    if isinstance(stopped, Interrupted):
        if not all(counted.values()):
            click.echo("cowtrace: interrupted before each variant had a counted run", err=True)
        click.get_current_context().exit(128 + stopped.signal)
    if stopped:
        raise stopped


def _variants(
    chosen: Sequence[str], file: str | None, command: Sequence[str]
) -> tuple[Variant, ...]:
    if file is not None and (chosen or command):
        raise usage_error("--file cannot be combined with --with or COMMAND", "write them to FILE")
    if chosen and not command:
        raise usage_error("--with compares a COMMAND with itself", "append it: -- COMMAND")
    if file is not None:
        found = from_file(Path(file))
    else:
        found = from_remedies(command, chosen) if chosen else from_command(command)
    if len(found) < 2:
        raise usage_error(
            "nothing to compare", "give two commands: -- A -- B; or: --with gc-freeze"
        )
    return found


def _order(
    variants: Sequence[Variant], runs: int, warm_ups: int, seed: int
) -> Iterator[tuple[int, Variant]]:
    """Each block in an order of its own. Counted blocks are numbered from 1."""
    shuffle = random.Random(seed)
    for block in range(1 - warm_ups, runs + 1):
        for each in shuffle.sample(variants, len(variants)):
            yield block, each


def _applied(folder: Path, variant: int) -> Path:
    """By number: the name is in the command's environment, whose size must not differ."""
    return folder / f"{variant:02}.applied"


@contextmanager
def _folder(save: str | None) -> Iterator[tuple[Path, Path]]:
    """A folder that is removed at the end, and the one for recordings."""
    with tempfile.TemporaryDirectory(prefix="cowtrace-try-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # a command of another user reads its hooks there
        if save is None:
            yield folder, folder
            return
        kept = Path(save)
        try:
            kept.mkdir(mode=0o700, exist_ok=True)
            is_empty = not any(kept.iterdir())
        except OSError as error:
            raise CowtraceError(
                f"cannot save recordings in {printable(save)}: {error.strerror}",
                hint="choose another folder: --save DIR",
            ) from None
        if not is_empty:
            raise CowtraceError(
                f"{printable(save)} is not empty", hint="choose a new folder: --save DIR"
            )
        yield folder, kept


def _write(
    variants: Sequence[Variant],
    counted: dict[str, list[Run]],
    notes: Sequence[str],
    form: Form,
    seed: int,
    warm_ups: int,
    *,
    interrupted: bool,
) -> None:
    found = trials.compare(counted, seed)
    tried = {each.name: (each.command, each.remedies.names) for each in variants}
    if form != "table":
        made = trial_objects.trial(
            found, counted, tried, notes, seed=seed, warm_ups=warm_ups, interrupted=interrupted
        )
        if form == "json":
            click.echo(json.dumps(made))
        else:
            CsvLines(sys.stdout).write(
                {"against": each["against"], "variant": each["name"], **row}
                for each in made["comparisons"]
                for row in each["measures"]
            )
        return
    counts = "/".join(dict.fromkeys(str(len(each)) for each in counted.values()))
    how = f"{counts} runs of each, in random order (--seed {seed}), after {warm_ups} warm-up."
    first = variants[0].command
    legend = {each.name: shlex.join(each.command) for each in variants if each.command != first}
    legend = {variants[0].name: shlex.join(first), **legend} if legend else {}
    show(trials_text(found, how, legend, notes))
