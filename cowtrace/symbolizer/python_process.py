"""Keep what is known of the CPython interpreter of one process, until its memory changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from cowtrace.symbolizer.cpython.calls import calls
from cowtrace.symbolizer.cpython.code import CodeNames
from cowtrace.symbolizer.cpython.memory import Memory
from cowtrace.symbolizer.cpython.mixed_stack import IMPORT_SYSTEM
from cowtrace.symbolizer.cpython.runtime import Runtime, find_runtime
from cowtrace.symbolizer.cpython.types import TypeInfo, TypeNames
from cowtrace.symbolizer.memory_map import Mapping
from cowtrace.symbolizer.process_memory import ProcessMemory
from cowtrace.symbolizer.traced_process import Open, TracedProcess

_MOST_CALLS = 4096  # that are remembered; then all are forgotten
_MOST_POOLS = 4096  # likewise, before a request
# Start, end, inode, path of a line of /proc/PID/maps.
_LINE = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ (\d+)[ \t]*(.*)$", re.MULTILINE)


@dataclass(slots=True)
class PythonProcess:
    """What was found in one process. Nothing, if it runs no Python."""

    memory: ProcessMemory
    alive: bool = False  # in this request; what was read before is still known
    round: int = -1  # in which it was last asked about
    runtime: Runtime | None = None
    types: TypeNames | None = None
    code: CodeNames | None = None
    called: dict[int, bool] = field(default_factory=dict)  # by return address
    pools: dict[int, bool] = field(default_factory=dict)  # as Interpreter has it
    pools_round: int = -1  # in which these were read
    own: list[tuple[int, int]] = field(default_factory=list)  # of the interpreter's variables

    def type_at(self, address: int) -> TypeInfo | None:
        return self.types.at(address) if self.types else None

    def imports(self, code: int) -> bool | None:
        """Whether this code object is of the import system. None: it is not known."""
        place = self.code.at(code, 0) if self.code else None
        return place.file.startswith(IMPORT_SYSTEM) if place else None

    def is_call(self, back: int) -> bool:
        """Whether the interpreter's loop was called there, which returns to that address."""
        if back not in self.called:
            if len(self.called) >= _MOST_CALLS:
                self.called.clear()
            function = self.runtime.evaluates if self.runtime else None
            found = function is not None and calls(Memory(self.memory.read), back, function)
            self.called[back] = found
        return self.called[back]

    def is_own(self, address: int) -> bool:
        return any(start <= address < end for start, end in self.own)

    def pools_of(self, round_: int) -> dict[int, bool]:
        """What is known in this round of which places are pools."""
        if self.pools_round != round_ or len(self.pools) >= _MOST_POOLS:
            self.pools_round = round_
            self.pools.clear()
        return self.pools

    def start_round(self, round_: int) -> None:
        """What was read before is compared with the memory of now, once a round."""
        if self.alive and round_ != self.round:
            self.called.clear()
            if self.types and self.code:
                self.types.start_round()
                self.code.start_round()
        self.round = round_

    def find(self, traced: TracedProcess, open_: Open) -> None:
        """Look for an interpreter in its mappings."""

        def open_file(mapping: Mapping) -> int | None:
            return open_("file", mapping.start, mapping.end, mapping.path, *mapping.file)

        found = None
        read = self.memory.read
        with suppress(OSError, ValueError):
            found = find_runtime(traced.mappings, open_file, read)
        if isinstance(found, Runtime):
            self.runtime = found
            self.types = TypeNames(read, found)
            self.code = CodeNames(read, found)
            self.own = list(_variables(traced.text, found.path.encode(errors="replace")))


def _variables(maps: bytes, path: bytes) -> Iterator[tuple[int, int]]:
    """The mappings of the interpreter's file, and the one of zeroes that follows them (.bss)."""
    end_of_file = -1
    for start, end, inode, name in _LINE.findall(maps):
        first, last = int(start, 16), int(end, 16)
        if name == path or (first == end_of_file and inode == b"0" and not name):
            yield first, last
        end_of_file = last if name == path else -1
