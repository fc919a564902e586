"""Name the function, the file and the line of an instruction, by its code object."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from cowtrace.symbolizer.cpython.line_tables import LineOf, in_lnotab, in_locations, in_ranges
from cowtrace.symbolizer.cpython.memory import Memory, Read, UnreadableError
from cowtrace.symbolizer.cpython.objects import Objects
from cowtrace.symbolizer.cpython.runtime import Runtime

_MOST_PLACES = 16384  # that are remembered; then all are forgotten
_MOST_TABLE_BYTES = 1 << 17  # of a line table
_LARGEST_LINE = 1 << 31


@dataclass(frozen=True, slots=True)
class CodePlace:
    """Where an instruction is in the source. Text is hostile."""

    function: str  # co_qualname; until 3.10 co_name, which is without the class
    file: str  # co_filename
    line: int | None  # None: the instruction belongs to no line


class CodeNames:
    """The code of one process, by the addresses of its code objects."""

    def __init__(self, read: Read, runtime: Runtime) -> None:
        self._objects = Objects(Memory(read), runtime)
        self._known: dict[tuple[int, int], CodePlace | None] = {}
        self._line_of: LineOf = {9: in_lnotab, 10: in_ranges}.get(
            runtime.layout.minor, in_locations
        )

    def at(self, code: int, instruction: int) -> CodePlace | None:
        """Of a frame: its code object and its instruction, as `frames.Frame` has them.

        None: no code object lies there.
        """
        key = code, instruction
        if key not in self._known:
            if len(self._known) >= _MOST_PLACES:
                self._known.clear()
            found = None
            with suppress(UnreadableError):
                found = self._read(code, instruction)
            self._known[key] = found
        return self._known[key]

    def forget(self) -> None:
        """Drop what is remembered: an address may be another object's by now."""
        self._known.clear()

    def _read(self, code: int, instruction: int) -> CodePlace | None:
        objects, layout = self._objects, self._objects.layout
        memory = objects.memory
        if objects.type_of(code) != objects.runtime.code_type:
            return None
        name = layout.co_name if layout.co_qualname is None else layout.co_qualname
        function = objects.text(memory.word(code + name))
        file = objects.text(memory.word(code + layout.co_filename))
        line = None
        with suppress(UnreadableError):
            table = objects.data(memory.word(code + layout.co_linetable), _MOST_TABLE_BYTES)
            first = memory.int32(code + layout.co_firstlineno)
            line = self._line_of(table, first, self._offset(code, instruction))
        if line is not None and not 0 <= line < _LARGEST_LINE:
            line = None
        return CodePlace(function, file, line)

    def _offset(self, code: int, instruction: int) -> int:
        """In bytes from the first instruction on; negative: before it."""
        layout = self._objects.layout
        if layout.co_code_adaptive is None:
            return instruction * (layout.lasti_unit_bytes or 1)
        return instruction - (code + layout.co_code_adaptive)
