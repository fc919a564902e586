"""Parse replies of the process that names stacks, which is not trusted.

Raise LookupError, TypeError or ValueError for what is no reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import intern
from typing import Any

from cowtrace.model import Stack, StackFrame, WriteCause
from cowtrace.tracer import abi

UNKNOWN = "[unknown]"
_MOST_NAME = 200  # characters of a type's name
# Of one write: cause and type, whether the interpreter imports a module. No cause: only the mapping
# tells it. No type: it is no object. None at the end: it is not known.
Explained = tuple[WriteCause | None, str | None, bool | None]


def frames(reply: dict[str, Any]) -> Stack:
    """The frames of one stack."""
    return tuple(_frame(each) for each in reply["frames"])


def written(reply: dict[str, Any], count: int) -> tuple[list[Explained], bytes | None]:
    """What `count` writes changed, and struct runtime."""
    types = [None, *(intern(str(name)[:_MOST_NAME]) for name in reply["types"])]
    causes = [None, *WriteCause]
    answers = [
        (causes[cause], types[name], None if importing is None else bool(importing))
        for cause, name, importing in reply["written"]
    ]
    if len(answers) != count:
        raise ValueError("not as many as were asked for")
    runtime = reply["runtime"]
    return answers, runtime and abi.runtime(runtime)


def _frame(reply: Sequence[Any]) -> StackFrame:
    symbol, module, address, *line = reply
    if not (isinstance(symbol, str) and isinstance(module, str) and isinstance(address, int)):
        raise TypeError(reply)
    if line and not isinstance(line[0], int | None):
        raise TypeError(reply)
    return StackFrame(intern(symbol or UNKNOWN), intern(module), address, *line[:1])


def unnamed(addresses: Sequence[int]) -> Stack:
    """Frames at these addresses without names."""
    return tuple(StackFrame(UNKNOWN, "", address) for address in addresses)
