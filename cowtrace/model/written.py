"""What a write that copied a page changed, in CPython's memory."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class WriteCause(enum.Enum):
    """What the written bytes are."""

    REFERENCE_COUNT = "reference count"
    GC_HEADER = "GC header"  # links and flags of the garbage collector, in front of an object
    OBJECT_DATA = "object's own data"
    BUFFER = "buffer of an object"  # memory of an arena that is no object: list items, dict keys
    ALLOCATOR = "free list or allocator"  # headers of pools, free blocks, objects in free lists
    ARENA = "arena outside of objects"
    INTERPRETER = "interpreter's variables"  # of its program file, outside of objects
    LIBRARY = "library's variables"  # of other files
    MALLOC = "memory outside arenas"  # of malloc() and mmap(): large buffers, C libraries
    STACK = "stack"
    UNKNOWN = "unknown"


class Phase(enum.Enum):
    """What the interpreter did meanwhile."""

    RUNNING = "running"
    IMPORTING = "importing"
    FORK_HANDLERS = "fork handlers"
    COLLECTING = "collecting"  # which generation is not known
    COLLECTING_0 = "collecting, gen 0"
    COLLECTING_1 = "collecting, gen 1"
    COLLECTING_2 = "collecting, gen 2"
    SHUTTING_DOWN = "shutting down"


@dataclass(frozen=True, slots=True)
class Written:
    """What one write changed."""

    cause: WriteCause
    type: str | None  # name of the object's type, with its module; None: no object. Hostile
    phase: Phase | None  # None: unknown
