"""`cowtrace verify --baseline FILE`: say what changed since, and keep the results."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TextIO

from cowtrace.cli.options import Lines, notice
from cowtrace.files import private_file
from cowtrace.terminal.screen import show
from cowtrace.text import printable
from cowtrace.verify import change_report, matrix, saved
from cowtrace.verify.baseline import Since, since, updated
from cowtrace.verify.differences import Difference


@dataclass(frozen=True, slots=True)
class Baseline:
    """The results of an earlier run, and where those of this one go."""

    file: str
    before: tuple[matrix.KernelChecks, ...] | None  # None: there was no file
    stream: TextIO | None  # None: the file stays as it is
    groups: frozenset[str] | None  # those that this run checks; None: all

    def changes(self, made: Sequence[matrix.KernelChecks]) -> tuple[Since, ...]:
        """What changed since the earlier run; nothing if there was none."""
        return since(self.before, made, self.groups) if self.before else ()

    def keep(self, made: Sequence[matrix.KernelChecks]) -> None:
        """Write the results of this run, if the file is to be created or replaced."""
        if self.stream:
            self.stream.write(saved.text_of(updated(self.before or (), made, self.groups)))
            notice(f"the results are kept in {printable(self.file)}")


@contextmanager
def opened(
    file: str | None, *, replace: bool, groups: Collection[str] | None
) -> Iterator[Baseline | None]:
    """Read the file, and prepare to write it if it is missing or to be replaced.

    Before the checks start, so that a bad file costs no results. An exception in the block leaves
    the file as it was. Raises CowtraceError if it cannot be read or written.
    """
    if file is None:
        yield None
        return
    before = saved.read(file)
    writes = replace or before is None
    with private_file(file) if writes else nullcontext() as stream:
        yield Baseline(file, before, stream, None if groups is None else frozenset(groups))


def show_changes(
    changes: Sequence[Since], file: str, lines: Lines | None, stream: TextIO | None
) -> dict[str, Sequence[Difference]]:
    """Show what changed on each kernel, or write it by `lines`; return it under a heading."""
    for each in changes:
        if lines:
            between = (each.before.kernel, each.kernel.kernel)
            for row in change_report.objects(each.differences, each.kernel.kernel, between):
                lines(row)
        else:
            show(change_report.changes(each, file), stream)
    return {
        f"{each.kernel.kernel} since {each.before.kernel} in {file}": each.differences
        for each in changes
    }
