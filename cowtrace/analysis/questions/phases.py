"""Attribute copied bytes to phases of the program, by the names of its functions."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from cowtrace.analysis.stacks import Node, leaves

# The first of these that any call of a stack matches: a collection that runs at exit is shutdown.
# Names of CPython, CRuby, glibc and jemalloc.
_PHASES = (
    ("shutdown", r"Py_Finalize|finalize_modules|ruby_cleanup|^_*run_exit_handlers|^_?exit$"),
    ("garbage collection", r"gc_collect|_PyGC|deduce_unreachable|move_unreachable|update_refs"
     r"|subtract_refs|^gc_(mark|sweep|start|marks)|rb_gc|^gc\.collect"),
    ("allocator", r"^_*(int_)?(malloc|free|realloc|calloc)|_?PyObject_(Malloc|Free)|^je_|arena_"
     r"|malloc_consolidate|unlink_chunk|pymalloc|_PyMem_"),
    ("reference counts", r"Py_(INC|DEC)REF|_Py_Dealloc|list_(iter|slice|item)|listiter_next"
     r"|tupleiter_next"),
)  # fmt: skip
_COMPILED = tuple((phase, re.compile(pattern)) for phase, pattern in _PHASES)


def phases(root: Node) -> tuple[tuple[str, int], ...]:
    """Bytes by phase, the largest first; code without a known phase is left out."""
    sums = Counter[str]()
    for calls, copied in leaves(root):
        first = min((_rank(call.name) for call in calls), default=len(_COMPILED))
        if first < len(_COMPILED):
            sums[_COMPILED[first][0]] += copied
    return tuple(sums.most_common())


@lru_cache(maxsize=1 << 14)
def _rank(name: str) -> int:
    """Index of the first phase that the function belongs to; the number of phases if none."""
    found = (at for at, (_, pattern) in enumerate(_COMPILED) if pattern.search(name))
    return next(found, len(_COMPILED))
