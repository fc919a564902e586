"""Put frames of Python code in the places of the interpreter's own frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cowtrace.symbolizer.cpython.code import CodePlace
from cowtrace.symbolizer.cpython.frames import OWNER_WITHOUT_CODE

_EVALUATES = "_PyEval_EvalFrameDefault"
_TRAMPOLINE = "py::"  # of CPython's perf trampolines: the names are there already
_SINCE_INLINED_CALLS = 11  # one call of _PyEval_EvalFrameDefault runs several frames
_SINCE_SHIMS = 12  # of these, the outermost is followed by a frame without code
IMPORT_SYSTEM = "<frozen importlib._bootstrap"  # begins the names of its two files

NativeFrame = tuple[str, str, int]  # function, file, address
MixedFrame = tuple[str, str, int, int | None]  # and the line
# Of struct python_frame: code, instruction, flags.
PythonFrame = Sequence[int]
CodeAt = Callable[[int, int], CodePlace | None]


def mixed_stack(
    native: Sequence[NativeFrame], python: Sequence[PythonFrame], minor: int, code_at: CodeAt
) -> list[MixedFrame]:
    """Both innermost first. `minor`: 11 for CPython 3.11.

    Python frames beyond the last of the interpreter's, which may not be unwound, follow at the end.
    """
    if any(name.startswith(_TRAMPOLINE) for name, _, _ in native):
        return [(*frame, None) for frame in native]
    runs = _runs(python, minor)
    mixed: list[MixedFrame] = []
    for frame in native:
        run = next(runs, None) if frame[0] == _EVALUATES else None
        mixed += _named(run, code_at) if run else [(*frame, None)]
    for run in runs:
        mixed += _named(run, code_at)
    return mixed


def _runs(python: Sequence[PythonFrame], minor: int) -> Iterator[list[PythonFrame]]:
    """The frames that each call of _PyEval_EvalFrameDefault runs."""
    run: list[PythonFrame] = []
    for frame in python:
        is_entry, owner = frame[2] & 0xFF, frame[2] >> 8
        has_code = minor < _SINCE_INLINED_CALLS or owner < OWNER_WITHOUT_CODE
        if has_code:
            run.append(frame)
        if minor < _SINCE_INLINED_CALLS:
            ends = True
        elif minor < _SINCE_SHIMS:
            ends = bool(is_entry)
        else:
            ends = not has_code
        if ends and run:
            yield run
            run = []
    if run:
        yield run


def _named(run: Sequence[PythonFrame], code_at: CodeAt) -> list[MixedFrame]:
    """As CPython's perf trampolines name them: py::NAME:FILE."""
    found: list[MixedFrame] = []
    for code, instruction, _ in run:
        place = code_at(code, instruction)
        if place is None:
            found.append(("[python]", "", code, None))
        elif not place.hidden:
            name = f"{_TRAMPOLINE}{place.function}:{place.file}"
            found.append((name, "", code, place.line))
    return found
