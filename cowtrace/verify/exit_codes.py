"""Choose the exit code of `cowtrace verify`, which `git bisect run` understands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from cowtrace.errors import EXIT_MISMATCH, EXIT_UNTESTABLE, CowtraceError
from cowtrace.verify.check import Verdict
from cowtrace.verify.matrix import KernelChecks


def exit_code(
    made: Iterable[KernelChecks], failure: CowtraceError | None, *, bad: bool, own: bool
) -> int:
    """4 if something is bad, or 0.

    failure: what ended a kernel's checks early. own: a kernel was named by its path; then what is
    bad counts more than a failure, and EXIT_UNTESTABLE says that nothing was seen.
    """
    verdicts = {check.verdict for one in made for check in one.checks}
    if failure and not (own and bad):
        return EXIT_UNTESTABLE if own else failure.exit_code
    if bad:
        return EXIT_MISMATCH
    return EXIT_UNTESTABLE if own and Verdict.HOLDS not in verdicts else 0


@contextmanager
def untestable(own: bool) -> Iterator[None]:
    """Give errors that say nothing of a kernel EXIT_UNTESTABLE: bisect takes others as bad."""
    try:
        yield
    except CowtraceError as error:
        if own and error.exit_code != EXIT_MISMATCH:
            error.exit_code = EXIT_UNTESTABLE
        raise
