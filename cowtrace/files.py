"""An output file that nobody else can read, plant a link under, or see half-written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from cowtrace.errors import CowtraceError
from cowtrace.links import PROC, without_links
from cowtrace.text import printable


@contextmanager
def private_file(name: str) -> Iterator[TextIO]:
    """Written beside the file, with mode 0600, and put in its place at the end if all went well.

    A link of this user or of root is followed; a terminal, a pipe or an open descriptor
    (/dev/stdout) is written to as it is.
    Raises CowtraceError when it cannot be written, or a link of another user is on the way.
    """
    try:
        path = without_links(Path(name))
        if _is_descriptor(path) or (path.exists() and not path.is_file()):
            with path.open("w", encoding="utf-8", errors="backslashreplace") as stream:
                yield stream
            return
        fd, staged = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        try:
            with open(fd, "w", encoding="utf-8", errors="backslashreplace") as stream:  # noqa: PTH123
                yield stream
            Path(staged).replace(path)
        finally:
            with suppress(FileNotFoundError):
                Path(staged).unlink()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CowtraceError(
            f"cannot write {printable(name)}: {error.strerror}",
            hint="name a file in a folder that you may write to, with room: -o FILE",
        ) from None


def _is_descriptor(path: Path) -> bool:
    """Whether it is one that is open already, as /dev/stdout is; perhaps on a file."""
    return path.is_relative_to(PROC) and path.parent.name == "fd"
