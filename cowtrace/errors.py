"""Define expected failures: a message, a hint that helps, and an exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable

# Exit codes of the command line. `cowtrace run` otherwise passes on its command's own code.
EXIT_FAILURE = 1  # stderr says what failed
EXIT_USAGE = 2  # an option or argument is wrong (click's own code)
EXIT_NO_PLAN = 3  # this kernel, or these privileges, let no probe plan run
EXIT_MISMATCH = 4  # a workload, or a check, counted something else than expected
EXIT_NO_VM = 5  # the test VM cannot be started: no QEMU, no image or no room
EXIT_NO_ROOM = 6  # the disk is full; the recording up to then is kept
EXIT_TIMEOUT = 124  # `cowtrace vm run --timeout` ended the command
EXIT_UNTESTABLE = 125  # `cowtrace verify --kernel PATH`: nothing is known of this kernel
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127


class CowtraceError(Exception):
    """An expected failure, shown as two lines: the message, then `Hint:` and the hint."""

    def __init__(self, message: str, *, hint: str, exit_code: int = EXIT_FAILURE) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = exit_code


def did_you_mean(name: str, known: Iterable[str], show: Callable[[str], str] = str) -> str:
    """The begin of a hint: `did you mean 6.12? `; empty if no known name is near."""
    import difflib  # slow to import, and few need it

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"did you mean {show(near[0])}? " if near else ""
