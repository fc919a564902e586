"""Write a profile in the format of pprof: google/pprof's profile.proto, gzipped.

The numbers of the fields are those of proto/profile.proto.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from cowtrace.analysis.profile import Profile
from cowtrace.analysis.stacks import Call
from cowtrace.machine.protobuf_wire import data, number, packed


def write_pprof(
    stream: BinaryIO, profile: Profile, *, began_ns: int, duration_ns: int, comments: Iterable[str]
) -> None:
    """`began_ns`: since the epoch."""
    # Six messages of numbers: a writer of them is less than a dependency on protobuf's runtime.
    content = b"".join(_fields(profile, began_ns, duration_ns, comments))
    stream.write(gzip.compress(content, mtime=0))


def _fields(
    profile: Profile, began_ns: int, duration_ns: int, comments: Iterable[str]
) -> Iterator[bytes]:
    strings: dict[str, int] = {"": 0}
    functions: dict[Call, int] = {}  # a location and a function for each call, of the same id
    mappings: dict[str, int] = {}

    def string(text: str) -> int:
        return strings.setdefault(text, len(strings))

    for name, unit in profile.types:
        yield data(1, number(1, string(name)) + number(2, string(unit)))
    for sample in profile.samples:
        innermost_first = reversed(sample.calls)
        ids = [functions.setdefault(call, len(functions) + 1) for call in innermost_first]
        labels = b""
        for label, value in sample.labels:
            content = number(2, string(value)) if isinstance(value, str) else number(3, value)
            labels += data(3, number(1, string(label)) + content)
        yield data(2, packed(1, ids) + packed(2, sample.values) + labels)
    for call, at in functions.items():
        mapping = mappings.setdefault(call.module, len(mappings) + 1) if call.module else 0
        yield data(4, number(1, at) + number(2, mapping) + data(4, number(1, at)))
        named, file = string(call.name), string(call.module)
        yield data(5, number(1, at) + number(2, named) + number(3, named) + number(4, file))
    for module, at in mappings.items():
        has_functions = number(7, 1)  # else pprof would look for the file to name its addresses
        yield data(3, number(1, at) + number(5, string(module)) + has_functions)
    comment_ids = [string(comment) for comment in comments]
    default = string(profile.types[0][0])
    for text in strings:
        yield data(6, text.encode(errors="backslashreplace"))
    yield number(9, began_ns) + number(10, duration_ns) + packed(13, comment_ids)
    yield number(14, default)
