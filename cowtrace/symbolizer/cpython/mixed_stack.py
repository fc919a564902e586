"""Put frames of Python code in the places of the interpreter's own frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cowtrace.symbolizer.cpython.code import CodePlace
from cowtrace.symbolizer.cpython.frames import OWNER_WITHOUT_CODE

_EVALUATES = "_PyEval_EvalFrameDefault"
_MOST_PYTHON_FRAMES = 32  # PYTHON_FRAMES of bpf/cow.h
_TRAMPOLINE = "py::"  # of CPython's perf trampolines: the names are there already
_SINCE_INLINED_CALLS = 11  # one call of _PyEval_EvalFrameDefault runs several frames
_SINCE_SHIMS = 12  # of these, the outermost is followed by a frame without code
IMPORT_SYSTEM = "<frozen importlib._bootstrap"  # begins the names of its two files

NativeFrame = tuple[str, str, int]  # function, file, address
MixedFrame = tuple[str, str, int, int | None]  # and the line
# Of struct python_frame: code, instruction, flags.
PythonFrame = Sequence[int]
CodeAt = Callable[[int, int], CodePlace | None]
# Whether the call in front of a return address is one of _PyEval_EvalFrameDefault().
IsCall = Callable[[int], bool]


def mixed_stack(
    native: Sequence[NativeFrame],
    python: Sequence[PythonFrame],
    minor: int,
    code_at: CodeAt,
    is_call: IsCall,
) -> list[MixedFrame]:
    """Both innermost first. `minor`: 11 for CPython 3.11.

    Python frames beyond the last of the interpreter's, which may not be unwound, follow at the end.
    """
    if any(name.startswith(_TRAMPOLINE) for name, _, _ in native):
        return [(*frame, None) for frame in native]
    runs = list(_runs(python, minor))
    places = [at for at in range(len(native)) if _evaluates(native, at, is_call)]
    if len(python) < _MOST_PYTHON_FRAMES:
        # All runs are there. The innermost call begins or ends: its run is not linked.
        del places[: max(0, len(places) - len(runs))]
    run_at = dict(zip(places, runs, strict=False))
    mixed: list[MixedFrame] = []
    for at, frame in enumerate(native):
        run = run_at.get(at)
        mixed += _named(run, code_at) if run else [(*frame, None)]
    for run in runs[len(places) :]:
        mixed += _named(run, code_at)
    return mixed


def _evaluates(native: Sequence[NativeFrame], at: int, is_call: IsCall) -> bool:
    """Whether a frame is one of _PyEval_EvalFrameDefault().

    Compilers move parts of it away, `_PyEval_EvalFrameDefault.cold`. In stripped programs these
    have no name: then the call tells what was called.
    """
    name = native[at][0]
    if name:
        return name == _EVALUATES or name.startswith(f"{_EVALUATES}.")
    return at + 1 < len(native) and is_call(native[at + 1][2])


def _runs(python: Sequence[PythonFrame], minor: int) -> Iterator[list[PythonFrame]]:
    """The frames that each call of _PyEval_EvalFrameDefault runs.

    Since 3.12 there can be none: the call has left its last frame, and frees what that had.
    """
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
        if ends:
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
