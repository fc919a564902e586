"""Build one tree of calls from stacks, and from it lists and paths."""

from __future__ import annotations

import functools
import itertools
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cowtrace.model import DetailRow, Snapshot, StackFrame
from cowtrace.text import printable

_PYTHON = "py::"  # CPython's perf trampoline: py::NAME:FILE
_KERNEL = "[kernel]"
NO_STACK = "[no stack]"
WRITTEN = "[written]"  # as the file of what was written, below the code that wrote it
# Functions between the probed one and the tracer's own program: the top of every kernel stack.
_TRACING = (
    *("bpf_prog_", "bpf_trace_run", "bpf_trampoline_", "bpf_get_stack", "__bpf_", "__traceiter_"),
    *("trace_call_bpf", "kprobe_", "kretprobe_", "__kretprobe_", "ftrace_", "arch_ftrace_"),
    *("arch_rethook_", "rethook_"),
)


@dataclass(frozen=True, slots=True)
class Call:
    """A function, printable, and without an address, so that its calls add up."""

    name: str
    module: str  # file; `[kernel]`; empty when unknown

    @property
    def label(self) -> str:
        """`name (file)`, with the last part of the path."""
        if not self.module or self.module == _KERNEL:
            return self.name + ("_[k]" if self.module else "")
        return f"{self.name} ({posixpath.basename(self.module)})"


@dataclass(slots=True)
class Node:
    """A call in the tree, with what it and its callees copied."""

    call: Call
    self_bytes: int = 0
    total_bytes: int = 0
    faults: int = 0  # in it and its callees
    children: dict[Call, Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Function:
    """The sums over all calls of one function."""

    call: Call
    self_bytes: int  # copied by its own instructions
    total_bytes: int  # and by its callees
    faults: int  # in it and its callees


@functools.lru_cache(maxsize=1 << 14)
def readable(frame: StackFrame) -> Call:
    """The function of a frame. A Python function has its Python name and file."""
    symbol, module = frame.symbol, frame.module
    if symbol.startswith(_PYTHON):
        name, _, file = symbol.removeprefix(_PYTHON).partition(":")
        symbol, module = name, file or module
    return Call(printable(symbol), printable(module))


def path(row: DetailRow, *, written: bool = False) -> tuple[Call, ...]:
    """The calls of a row, the outermost first, the kernel's last.

    `written`: what was written follows them, if it is known.
    """
    kernel = itertools.dropwhile(
        lambda frame: frame.symbol.startswith(_TRACING), row.kernel_stack or ()
    )
    frames = (*kernel, *(row.user_stack or ()))
    calls = tuple(readable(frame) for frame in reversed(frames)) or (Call(NO_STACK, ""),)
    if written and (what := row.written):
        of = f" of {printable(what.type)}" if what.type else ""
        calls += (Call(f"{what.cause.value}{of}", WRITTEN),)
    return calls


def stack_tree(now: Snapshot, rows: Iterable[DetailRow], *, written: bool = False) -> Node:
    """Build the tree: the root, a node for each process name, then their calls.

    `written`: what was written is the last call, where it is known.
    """
    names = {process.pid: printable(process.comm) for process in now.processes}
    root = Node(Call("all", ""))
    # One way down the tree for all rows of a stack, which is one object: stacks are deep.
    alike: dict[tuple[object, ...], list[DetailRow]] = {}
    for row in rows:
        if row.bytes > 0:
            stack = id(row.user_stack), id(row.kernel_stack), row.written if written else None
            alike.setdefault((row.pid, *stack), []).append(row)
    for row, *others in alike.values():
        copied = sum((each.bytes for each in others), row.bytes)
        faults = sum((each.faults for each in others), row.faults)
        node = root
        process = Call(names.get(row.pid, "?"), "")
        for call in (None, process, *path(row, written=written)):
            if call is not None:
                node = node.children.setdefault(call, Node(call))
            node.total_bytes += copied
            node.faults += faults
        node.self_bytes += copied
    return root


def leaves(root: Node) -> Iterator[tuple[tuple[Call, ...], int]]:
    """Yield each path whose last call copied bytes itself, without the root, and these bytes."""
    rest: list[tuple[tuple[Call, ...], Node]] = [((), root)]
    while rest:
        above, node = rest.pop()
        if node.self_bytes:
            yield above, node.self_bytes
        for call, child in sorted(node.children.items(), key=lambda item: item[1].total_bytes):
            rest.append(((*above, call), child))


def functions(root: Node) -> tuple[Function, ...]:
    """Sum by function, the largest own sum first, then by total. Recursion counts once."""
    own, total, faults = Counter[Call](), Counter[Call](), Counter[Call]()
    rest: list[tuple[Node, bool]] = [
        (child, False) for process in root.children.values() for child in process.children.values()
    ]
    above: set[Call] = set()  # the calls on the way to a node
    while rest:
        node, leaving = rest.pop()
        if leaving:
            above.discard(node.call)
            continue
        own[node.call] += node.self_bytes
        if node.call not in above:
            total[node.call] += node.total_bytes
            faults[node.call] += node.faults
            above.add(node.call)
            rest.append((node, True))
        rest += [(child, False) for child in node.children.values()]
    found = (Function(call, own[call], total[call], faults[call]) for call in total)
    return tuple(sorted(found, key=lambda f: (-f.self_bytes, -f.total_bytes, f.call.name)))
