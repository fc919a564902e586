"""Start the command line: `python -m cowtrace`, and the console script."""

from __future__ import annotations

# Built in: the module signal is an import that Ctrl-C could meet.
import _signal as signal  # type: ignore[import-not-found]

_AT_FIRST = signal.getsignal(signal.SIGINT)
if _AT_FIRST is signal.default_int_handler:  # else it is ignored, as in a shell's background
    # Ctrl-C ends an import as it ends any program, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from cowtrace import cli  # noqa: E402


def main() -> None:
    """The command line; see cowtrace.cli."""
    signal.signal(signal.SIGINT, _AT_FIRST)
    cli.main(prog_name="cowtrace")


if __name__ == "__main__":
    main()
