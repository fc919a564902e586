"""Decompress a kernel image or module, by its first bytes, up to a limit."""

from __future__ import annotations

import bz2
import lzma
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

from cowtrace.errors import CowtraceError
from cowtrace.vm import host_programs


def decompress(data: bytes, most_bytes: int, what: str) -> bytes:
    """The content; `data` itself if it has no known magic number.

    Raises CowtraceError when it is damaged, or larger than `most_bytes`.
    what: for the message, such as `bzImage`.
    """
    found = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    if not found:
        return data
    try:
        content = _METHODS[found](data, most_bytes + 1)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise damaged(what, f"its {found} data is damaged ({error})") from error
    if len(content) > most_bytes:
        raise damaged(what, f"it decompresses to more than {most_bytes >> 20} MiB")
    return content


def damaged(what: str, why: str) -> CowtraceError:
    """The error for a file that is no kernel."""
    return CowtraceError(f"{what} cannot be used: {why}", hint="is the file whole? build it again")


class _Stream(Protocol):
    """zlib's, lzma's and bz2's objects for one stream; what follows it is ignored."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _whole(stream: _Stream, data: bytes, limit: int) -> bytes:
    content = stream.decompress(data, limit)
    if len(content) < limit and not stream.eof:
        raise EOFError("it is cut")
    return content


def _program(name: str) -> Callable[[bytes, int], bytes]:
    """By a program that reads stdin; it may complain about what follows the data."""

    def run(data: bytes, limit: int) -> bytes:
        command = host_programs.tied([host_programs.find(name), "-dcq"])
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            with subprocess.Popen(
                command,
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=host_programs.environment(),
            ) as process:
                assert process.stdout
                content = process.stdout.read(limit)
                process.kill()
        if not content:
            raise ValueError(f"{name} cannot read it")
        return content

    return run


_MAGIC: Mapping[bytes, str] = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"\x5d\0\0": "lzma",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x02!L\x18": "lz4",
}
_METHODS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "gzip": lambda data, limit: _whole(zlib.decompressobj(wbits=31), data, limit),
    "xz": lambda data, limit: _whole(lzma.LZMADecompressor(), data, limit),
    "lzma": lambda data, limit: _whole(lzma.LZMADecompressor(), data, limit),
    "bzip2": lambda data, limit: _whole(bz2.BZ2Decompressor(), data, limit),
    "zstd": _program("zstd"),
    "lz4": _program("lz4"),
}
