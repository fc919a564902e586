"""The test VM: builds its images, boots a kernel, runs a command in it."""

from pathlib import Path

from cowtrace.errors import EXIT_NO_VM, CowtraceError

GUEST = Path(__file__).parent / "guest"  # the scripts that run inside the VM


class VmError(CowtraceError):
    """The test VM cannot be built, or cannot run, on this machine."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint, exit_code=EXIT_NO_VM)
