"""Resolve the two sides of `cowtrace verify --compare`: kernels, this machine, saved results."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TextIO

from cowtrace.cli.options import Form, Lines, usage_error
from cowtrace.cli.verify_runs import HERE
from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.terminal.screen import show
from cowtrace.text import printable
from cowtrace.verify import change_report, matrix, saved
from cowtrace.verify.differences import Difference, differences

_SAVED = ".json"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared."""

    label: str  # the kernel's name; as the user named it, where both have the same
    kernel: str | None = None  # to be run: a kernel of the VM, or HERE
    saved: matrix.KernelChecks | None = None


def side(name: str, require: Callable[[str], Any], groups: Collection[str] | None) -> Side:
    """`here`, `6.12`, `FILE.json`, or `FILE.json:6.12` for one of several kernels in a file.

    require: raises CowtraceError unless the VM has that kernel. groups: those to compare.
    """
    file = re.fullmatch(r"(.*\.json)(?::(.+))?", name)
    if not file:
        if name != HERE:
            require(name)
        return Side(name, kernel=name)
    one = _chosen(file[1], file[2] or "")
    if groups is not None:
        one = replace(one, checks=tuple(each for each in one.checks if each.group in groups))
    return Side(one.kernel, saved=one)


def sides(
    names: tuple[str, str], require: Callable[[str], Any], groups: Collection[str] | None
) -> tuple[Side, Side]:
    """Both of them. Raises CowtraceError if one cannot be used, or if they are the same."""
    if names[0] == names[1]:
        raise CowtraceError(
            f"--compare {printable(names[0])} {printable(names[1])}: these are the same",
            hint="name two: cowtrace verify --compare 6.1 7.2",
            exit_code=EXIT_USAGE,
        )
    one, other = (side(name, require, groups) for name in names)
    if one.label == other.label:
        return replace(one, label=names[0]), replace(other, label=names[1])
    return one, other


def labels(both: Iterable[Side]) -> dict[str, str]:
    """What the comparison calls each kernel that is to be run."""
    return {each.kernel: each.label for each in both if each.kernel}


def saved_checks(both: Iterable[Side]) -> list[matrix.KernelChecks]:
    """The checks that are not made anew, each under its side's label."""
    return [replace(each.saved, kernel=each.label) for each in both if each.saved]


def to_run(both: Iterable[Side]) -> tuple[str, ...]:
    """The kernels whose checks are not saved."""
    return tuple(dict.fromkeys(each.kernel for each in both if each.kernel))


def all_checks(
    both: Iterable[Side], made: Mapping[str, matrix.KernelChecks]
) -> tuple[matrix.KernelChecks, ...]:
    """The checks of both sides, each under its label. made: of those that were run."""
    return tuple(
        replace(each.saved or made[each.kernel or HERE], kernel=each.label) for each in both
    )


def compare(
    both: Sequence[matrix.KernelChecks], lines: Lines | None, stream: TextIO | None
) -> dict[str, Sequence[Difference]]:
    """Show what differs between the two, or write it by `lines`; return it under a heading."""
    one, other = both
    labels = (one.kernel, other.kernel)
    found = differences(one.checks, other.checks, labels)
    if lines:
        for row in change_report.objects(found, other.kernel, labels):
            lines(row)
    else:
        show(change_report.comparison(one, other, found), stream)
    return {" and ".join(labels): found}


def require_together(
    compare: tuple[str, str] | None,
    kernels: Sequence[str],
    baseline: str | None,
    update: bool,
    ktap: str | None,
    form: Form,
) -> None:
    """Raise UsageError for options that contradict each other."""
    if compare and (kernels or baseline):
        other = "--kernel" if kernels else "--baseline"
        raise usage_error(
            f"--compare and {other} cannot be combined", "--compare names two kernels"
        )
    if update and not baseline:
        raise usage_error("--update needs --baseline FILE", "it says which results to replace")
    if ktap == "-" and form != "table":
        raise usage_error(f"--ktap - and --{form} cannot be combined", "write KTAP to a file")


def _chosen(file: str, kernel: str) -> matrix.KernelChecks:
    kernels = saved.read(file)
    if kernels is None:
        raise CowtraceError(
            f"there is no file {printable(file)}",
            hint="keep results in one: cowtrace verify --kernel 6.12 --baseline FILE.json",
        )
    names = [one.kernel for one in kernels]
    if kernel in names or (not kernel and len(names) == 1):
        return kernels[names.index(kernel) if kernel else 0]
    problem = f"has no kernel {printable(kernel)}" if kernel else f"has {len(names)} kernels"
    example = f": {printable(f'{file}:{names[0]}')}" if names else ""
    raise CowtraceError(
        f"{printable(file)} {problem}",
        hint=f"name one of {', '.join(map(printable, names)) or 'none'}{example}",
        exit_code=EXIT_USAGE,
    )
