"""Name the frames of stacks: by the process, or by those it was forked from if it has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cowtrace.model import Stack, StackFrame, WriteCause
from cowtrace.proc import has_memory, parent
from cowtrace.symbolizer.messages import Identity
from cowtrace.tracer import abi
from cowtrace.tracer.symbolizer import Symbolizer
from cowtrace.tracer.symbolizer_replies import Explained

_MOST_ANCESTORS = 16  # whose symbols name a child's frames
_MOST_PARENTS = 1 << 14  # that are remembered
_MOST_FRAMES = 1 << 17  # of different stacks; a traced process can make stacks without end
REST: Stack = (StackFrame("[rest]", "", 0),)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the symbolizer says of writes, and of the interpreter of their process."""

    answers: list[Explained]
    runtime: bytes | None  # struct runtime; None: the process runs none that is supported
    is_own: bool  # False: the process has ended, and one that it was forked from told it


class Symbols:
    """Names stacks. `addresses` reads one by its id."""

    def __init__(
        self, addresses: Callable[[int], tuple[int, ...] | None], symbolizer: Symbolizer
    ) -> None:
        self._addresses = addresses
        self._symbolizer = symbolizer
        # The round, which `processes` identifies, and what was found in it.
        self._round: Mapping[int, abi.Process] | None = None
        self._stacks: dict[Stack, Stack] = {}  # each once: forked processes share most
        self._frames = 0  # in them
        self.folded = 0  # stacks that are `[rest]`
        self._families: dict[int, tuple[tuple[Identity, ...], int | None]] = {}
        self._parents: dict[int, int] = {}  # of living processes, as /proc had them

    def stack(
        self, number: int, pid: int | None, processes: Mapping[int, abi.Process]
    ) -> Stack | None:
        """Innermost function first; pid None: of the kernel. None when the map had no room for it.

        The frames of an ended process are named by its parent, whose memory has the same layout
        unless the process called exec; failing that, they are `[unknown]`.
        """
        addresses = self._addresses(number)
        if addresses is None:
            return None
        if pid is None:
            return self._once(self._symbolizer.kernel_stack(addresses))
        return self._once(self._symbolizer.user_stack(addresses, *self._family(pid, processes)))

    def unwound(
        self,
        registers: Sequence[int],
        stack: bytes,
        pid: int,
        processes: Mapping[int, abi.Process],
        python: Sequence[abi.PythonFrame] = (),
    ) -> Stack:
        """The frames of struct pt_regs and what was copied of the stack, from its pointer on.

        `python`: frames of Python, which take the places of those of its interpreter.
        """
        family, living = self._family(pid, processes)
        return self._once(self._symbolizer.user_stack(registers, family, living, stack, python))

    def written(
        self, records: Sequence[bytes], pid: int, processes: Mapping[int, abi.Process]
    ) -> Explanation | None:
        """What writes changed, of records as symbolizer/cpython/written.py takes them.

        None: nobody answered.
        """
        family, living = self._family(pid, processes)
        # Their forks were not seen: each may have executed another program since.
        relatives = _chain(family[-1][0], self._parent)[1:]
        identities = [(each, _start_ns(each, processes)) for each in relatives]
        found = self._symbolizer.written(records, family, living, identities)
        if living == 0 and not has_memory(pid) and not _is_complete(found):
            del self._families[pid]  # it ended meanwhile: those it was forked from know more
            family, living = self._family(pid, processes)
            found = self._symbolizer.written(records, family, living, identities) or found
        return found and Explanation(*found, is_own=living == 0)

    def forget(self) -> None:
        """Where there are many, remember none: those in use may be kept twice."""
        if self._frames > _MOST_FRAMES // 2:
            self._stacks.clear()
            self._frames = 0

    def _once(self, stack: Stack) -> Stack:
        """The same stack of before, if there was one; REST when there are too many."""
        if stack not in self._stacks:
            if self._frames >= _MOST_FRAMES:
                self.folded += 1
                return REST
            self._stacks[stack] = stack
            self._frames += len(stack)
        return self._stacks[stack]

    def _parent(self, pid: int) -> int | None:
        """The parent of a process, as first seen: it gets another when that ends."""
        if pid not in self._parents and (found := parent(pid)) is not None:
            if len(self._parents) >= _MOST_PARENTS:
                self._parents.clear()
            self._parents[pid] = found
        return self._parents.get(pid)

    def _family(
        self, pid: int, processes: Mapping[int, abi.Process]
    ) -> tuple[tuple[Identity, ...], int | None]:
        """A process and those it was forked from; the index of the nearest that lives."""
        if processes is not self._round:
            self._round = processes
            self._families.clear()
            self._symbolizer.new_round()
        if pid not in self._families:
            family = _forked_from(pid, processes)
            living = next((i for i, each in enumerate(family) if has_memory(each)), None)
            identities = tuple((each, _start_ns(each, processes)) for each in family)
            self._families[pid] = identities, living
        return self._families[pid]


def _is_complete(found: tuple[list[Explained], bytes | None] | None) -> bool:
    return found is not None and all(cause is not WriteCause.UNKNOWN for cause, _, _ in found[0])


def _start_ns(pid: int, processes: Mapping[int, abi.Process]) -> int:
    """When it started, to distinguish it from a later process of its pid; 0: unknown."""
    info = processes.get(pid)
    return info.start_ns if info else 0


def _forked_from(pid: int, processes: Mapping[int, abi.Process]) -> tuple[int, ...]:
    """The process, the one whose memory it was forked from, and so on."""

    def forked_from(pid: int) -> int | None:
        info = processes.get(pid)
        return info.parent if info and info.created_by else None

    return _chain(pid, forked_from)


def _chain(pid: int, before: Callable[[int], int | None]) -> tuple[int, ...]:
    """A process, the one before it, the one before that..."""
    chain = [pid]
    while len(chain) < _MOST_ANCESTORS and (following := before(chain[-1])):
        chain.append(following)
    return tuple(chain)
