"""Walk the Python frames of a thread, as an eBPF program does at a fault.

`FrameWalk` has the numbers that such a program needs; `walk` is the same in Python. The walk reads
five words and one byte at first, then three words and one byte a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from cowtrace.symbolizer.cpython.memory import WORD_BYTES, Memory, Read, UnreadableError
from cowtrace.symbolizer.cpython.runtime import Runtime

# Frames with this owner or a higher one run no code of Python: FRAME_OWNED_BY_CSTACK of 3.12 and
# 3.13, FRAME_OWNED_BY_INTERPRETER and FRAME_OWNED_BY_CSTACK of 3.14. No such owner is in 3.11.
OWNER_WITHOUT_CODE = 3
MOST_FRAMES = 64
_INT_BYTES = 4


@dataclass(frozen=True, slots=True)
class FrameWalk:
    """How to find a thread's frames. All but `gil_holder` are offsets and sizes in bytes."""

    # Address of a pointer to a PyThreadState: the thread that holds the GIL, or that held it last.
    # So the faulting thread has it, unless it has released the GIL and another has taken it, or it
    # runs no Python. It is the faulting thread's if the thread's IDs say so.
    gil_holder: int
    # Of PyThreadState: pthread_self(). On x86-64, that is the base of FS; on arm64, it lies less
    # than 4 KiB in front of the thread pointer, TPIDR_EL0. fork() keeps it.
    thread_id: int
    # Of PyThreadState, from 3.11 on: gettid(), in the thread's PID namespace. In a forked child it
    # is the parent's, until PyOS_AfterFork_Child() sets it, before os.register_at_fork() handlers.
    native_thread_id: int | None
    # From PyThreadState to its current frame: the pointer at the first offset, in what that points
    # to the pointer at the second, if there is one. NULL: it runs no Python. In 3.11 and 3.12, a
    # call from C sets the first pointer some instructions before the second: meanwhile the frames
    # are those of an earlier call, or anything.
    first: tuple[int, ...]
    previous: int  # of a frame: the pointer to its caller's; NULL: there is none
    code: int  # of a frame: the pointer to its code object
    code_mask: int  # the bits of that word that are the pointer
    instruction: int  # of a frame
    instruction_bytes: int  # 4: an int (f_lasti, signed), 8: a pointer
    owner: int | None  # of a frame, from 3.11 on: a byte; see OWNER_WITHOUT_CODE


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of Python code."""

    code: int  # address of its code object
    instruction: int  # as it is in the frame: `code.py` knows what it means


def frame_walk(runtime: Runtime) -> FrameWalk:
    """The walk through the frames of a process."""
    layout = runtime.layout
    return FrameWalk(
        gil_holder=runtime.gil_holder,
        thread_id=layout.thread_id,
        native_thread_id=layout.native_thread_id,
        first=layout.thread_frame,
        previous=layout.frame_previous,
        code=layout.frame_code,
        code_mask=layout.frame_code_mask,
        instruction=layout.frame_instruction,
        instruction_bytes=WORD_BYTES if layout.lasti_unit_bytes is None else _INT_BYTES,
        owner=layout.frame_owner,
    )


def walk(
    read: Read,
    how: FrameWalk,
    *,
    thread_id: int | None = None,
    native_thread_id: int | None = None,
    most: int = MOST_FRAMES,
) -> tuple[Frame, ...]:
    """The frames of the thread that holds the GIL, or held it last, innermost first.

    Empty where that thread has another ID than one that is given, or runs no Python. Ends at
    `most` frames, those without code included, and at memory that cannot be read.
    """
    memory = Memory(read)
    frames: list[Frame] = []
    try:
        thread = memory.word(how.gil_holder)
        if thread_id not in (None, memory.word(thread + how.thread_id)):
            return ()
        if native_thread_id is not None and how.native_thread_id is not None:
            found = memory.word(thread + how.native_thread_id)
            if native_thread_id != found:
                return ()
        frame = thread
        for offset in how.first:
            frame = memory.word(frame + offset)
        for _ in range(most):
            if not frame:
                break
            code = memory.word(frame + how.code) & how.code_mask
            data = memory.bytes_at(frame + how.instruction, how.instruction_bytes)
            signed = how.instruction_bytes == _INT_BYTES
            instruction = int.from_bytes(data, "little", signed=signed)
            owner = 0 if how.owner is None else memory.bytes_at(frame + how.owner, 1)[0]
            if owner < OWNER_WITHOUT_CODE:
                frames.append(Frame(code, instruction))
            frame = memory.word(frame + how.previous)
    except UnreadableError:
        pass
    return tuple(frames)
