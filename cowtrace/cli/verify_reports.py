"""Write the report files of `cowtrace verify`: KTAP as the checks end, the others at the end.

JUnit and HTML are one document each. If the run is ended early, JUnit has what was seen so far,
and why the rest is missing.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from types import FrameType
from typing import TextIO

from cowtrace.errors import CowtraceError
from cowtrace.files import private_file
from cowtrace.verify import html_page, junit, ktap
from cowtrace.verify.check import Check
from cowtrace.verify.differences import Difference
from cowtrace.verify.ktap_plan import Planned
from cowtrace.verify.matrix import KernelChecks


@dataclass(frozen=True, slots=True)
class Names:
    """The files to write. None: not this one; `-`: stdout."""

    html: str | None
    junit: str | None
    ktap: str | None


class Reports:
    """What was checked so far, and the files that are open for it."""

    def __init__(
        self, names: Names, files: ExitStack, kernels: Sequence[str], tests: Sequence[Planned]
    ) -> None:
        self._names, self._tests = names, tests
        self._waiting = [*kernels]  # not begun
        self._made: list[KernelChecks] = []
        self._begun = False  # whether the last of these gets more checks
        self._html, self._junit = (
            files.enter_context(private_file(name)) if name else None
            for name in (names.html, names.junit)
        )
        # The last one: it is in place at once, and a bad path of another must not empty it.
        self._ktap_stream = files.enter_context(_growing(names.ktap)) if names.ktap else None
        self._ktap: ktap.Report | None = None

    def add(self, saved: Sequence[KernelChecks]) -> None:
        """Add kernels whose checks were made before. Call it first."""
        if self._ktap_stream:
            self._ktap = ktap.Report(self._write, len(saved) + len(self._waiting))
            for one in saved:
                self._ktap.whole(one)

    def begin(self, kernel: str) -> None:
        """Begin the checks of a kernel."""
        self._waiting.remove(kernel)
        self._made.append(KernelChecks(kernel, (), ()))
        self._begun = True
        if self._ktap:
            self._ktap.begin(kernel, self._tests)

    def check(self, check: Check) -> None:
        """Add the next check. Raises CowtraceError if it is none that was to be made."""
        self._made[-1] = replace(self._made[-1], checks=(*self._made[-1].checks, check))
        if self._ktap:
            self._ktap.check(check)

    def end(self, one: KernelChecks) -> None:
        """End the kernel that was begun."""
        self._made[-1] = one
        self._begun = False
        if self._ktap:
            self._ktap.end(one)

    def finish(
        self, made: Sequence[KernelChecks], changes: Mapping[str, Sequence[Difference]]
    ) -> None:
        """Write what is written at the end. changes: by heading."""
        if self._html:
            self._html.write(html_page.page(made, changes))
        if self._junit:
            self._junit.write(junit.junit(made))

    def stop(self, reason: str) -> None:
        """End the run before all checks were made. No HTML is written."""
        if self._begun:
            self.end(replace(self._made[-1], error=reason))
        for kernel in self._waiting:
            self._made.append(KernelChecks(kernel, (), (), reason))
            if self._ktap:
                self._ktap.absent(kernel, reason)
        if self._names.junit:  # anew: the stream is dropped when an exception ends the run
            with private_file(self._names.junit) as stream:
                stream.write(junit.junit(self._made))

    def _write(self, line: str) -> None:
        assert self._ktap_stream
        self._ktap_stream.write(line)
        self._ktap_stream.flush()


@contextmanager
def opened(names: Names, kernels: Sequence[str], tests: Sequence[Planned]) -> Iterator[Reports]:
    """Open the files before the checks start: a bad path must not cost their results.

    kernels: to run, in order; tests: of each. If an exception ends the block, write what is known.
    SIGTERM, by which CI ends what takes too long, becomes one.
    """
    with ExitStack() as files:
        reports = Reports(names, files, kernels, tests)
        files.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _leave))
        try:
            yield reports
        except BaseException as error:
            with suppress(BrokenPipeError):
                reports.stop(_reason(error))
            raise


def _growing(name: str) -> AbstractContextManager[TextIO]:
    return nullcontext(sys.stdout) if name == "-" else private_file(name, at_once=True)


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "the run was interrupted"
    if isinstance(error, SystemExit):
        return "the run was ended by SIGTERM"
    return str(error) if isinstance(error, CowtraceError) else f"the run failed: {error!r}"


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
