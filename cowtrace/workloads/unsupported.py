"""A path that this kernel or this machine does not have: an expected failure of its own."""

from __future__ import annotations

from cowtrace.errors import CowtraceError

EXIT_CANNOT = 77  # what test programs exit with when they cannot run (automake)


class CannotHere(CowtraceError):
    """This kernel or machine cannot do what the workload needs; the message is the reason."""

    def __init__(self, message: str, *, hint: str = "see what there is: cowtrace doctor") -> None:
        super().__init__(message, hint=hint, exit_code=EXIT_CANNOT)
