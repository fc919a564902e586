"""Name the function, the file and the line of an instruction, by its code object."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from cowtrace.symbolizer.cpython.line_tables import LineOf, in_lnotab, in_locations, in_ranges
from cowtrace.symbolizer.cpython.memory import Memory, Read, UnreadableError
from cowtrace.symbolizer.cpython.objects import Objects
from cowtrace.symbolizer.cpython.runtime import Runtime

_MOST_CODES = 4096  # that are remembered; then all are forgotten
_MOST_BYTES = 2 << 20  # of their line tables
_MOST_TABLE_BYTES = 1 << 17  # of a line table
_LARGEST_LINE = 1 << 31
_INIT = "__init__"


@dataclass(frozen=True, slots=True)
class CodePlace:
    """Where an instruction is in the source. Text is hostile."""

    function: str  # co_qualname; until 3.10 co_name, which is without the class
    file: str  # co_filename
    line: int | None  # None: the instruction belongs to no line, as some at a function's begin
    first_line: int | None  # of the function; None: unreadable

    @property
    def hidden(self) -> bool:
        """Whether CPython itself shows this frame nowhere: from 3.13 on, that around __init__().

        It is _Py_InitCleanup of Python/specialize.c, whose file is called as its function.
        """
        return self.function == self.file == _INIT and self.line is None


@dataclass(frozen=True, slots=True)
class _Code:
    """One code object."""

    function: str
    file: str
    first_line: int | None
    lines: bytes | None  # its table; None: unreadable
    words: tuple[int, ...]  # that change when another code object takes the place


class CodeNames:
    """The code of one process, by the addresses of its code objects.

    What was read is remembered, since the process may have ended by the next frame, and compared
    once a round with what lies there.
    """

    def __init__(self, read: Read, runtime: Runtime) -> None:
        self._objects = Objects(Memory(read), runtime)
        self._known: dict[int, _Code] = {}
        self._checked: set[int] = set()  # of these, in this round
        self._bytes = 0  # of the tables of these
        self._line_of: LineOf = {9: in_lnotab, 10: in_ranges}.get(
            runtime.layout.minor, in_locations
        )

    def at(self, code: int, instruction: int) -> CodePlace | None:
        """Of a frame: its code object and its instruction, as `frames.Frame` has them.

        None: no code object lies there.
        """
        found = self._known.get(code)
        if found and code not in self._checked and self._is_another(code, found):
            found = None
        if found is None:
            with suppress(UnreadableError):
                found = self._read(code)
                self._remember(code, found)
        if found is None:
            return None
        line = None
        if found.lines is not None and found.first_line is not None:
            with suppress(UnreadableError):
                offset = self._offset(code, instruction)
                line = self._line_of(found.lines, found.first_line, offset)
        return CodePlace(found.function, found.file, _plausible(line), found.first_line)

    def start_round(self) -> None:
        """An address may be another object's by now."""
        self._checked.clear()

    def _is_another(self, code: int, known: _Code) -> bool:
        self._checked.add(code)
        try:
            return self._words(code) != known.words
        except UnreadableError:
            return False  # as it was

    def _words(self, code: int) -> tuple[int, ...]:
        layout, word = self._objects.layout, self._objects.memory.word
        name = layout.co_name if layout.co_qualname is None else layout.co_qualname
        return tuple(
            word(code + at)
            for at in (layout.ob_type, name, layout.co_filename, layout.co_linetable)
        )

    def _remember(self, code: int, found: _Code) -> None:
        if len(self._known) >= _MOST_CODES or self._bytes >= _MOST_BYTES:
            self._known.clear()
            self._bytes = 0
        self._known[code] = found
        self._checked.add(code)
        self._bytes += len(found.lines or b"")

    def _read(self, code: int) -> _Code:
        objects, layout = self._objects, self._objects.layout
        memory = objects.memory
        if objects.type_of(code) != objects.runtime.code_type:
            raise UnreadableError
        name = layout.co_name if layout.co_qualname is None else layout.co_qualname
        function = objects.text(memory.word(code + name))
        file = objects.text(memory.word(code + layout.co_filename))
        lines = first = None
        with suppress(UnreadableError):
            first = _plausible(memory.int32(code + layout.co_firstlineno))
            lines = objects.data(memory.word(code + layout.co_linetable), _MOST_TABLE_BYTES)
        return _Code(function, file, first, lines, self._words(code))

    def _offset(self, code: int, instruction: int) -> int:
        """In bytes from the first instruction on; negative: before it."""
        layout = self._objects.layout
        if layout.co_code_adaptive is None:
            return instruction * (layout.lasti_unit_bytes or 1)
        return instruction - (code + layout.co_code_adaptive)


def _plausible(line: int | None) -> int | None:
    return line if line is not None and 0 <= line < _LARGEST_LINE else None
