"""Explain writes into the memory of CPython processes: records in, causes and types out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from cowtrace.model import WriteCause
from cowtrace.symbolizer.cpython.frames import frame_walk
from cowtrace.symbolizer.cpython.memory import Memory
from cowtrace.symbolizer.cpython.mixed_stack import MixedFrame, NativeFrame, mixed_stack
from cowtrace.symbolizer.cpython.runtime import Runtime
from cowtrace.symbolizer.cpython.types import TypeInfo
from cowtrace.symbolizer.cpython.written import RECORD_BYTES, Interpreter, WrittenWords, explain
from cowtrace.symbolizer.messages import Identity
from cowtrace.symbolizer.process_memory import ProcessMemory
from cowtrace.symbolizer.python_process import PythonProcess
from cowtrace.symbolizer.traced_process import Open, TracedProcess

_MOST_PROCESSES = 64
_MOST_NAME = 200  # characters of a type's name
_MOST_REPLY = 80_000  # characters of all names of a reply, which must fit into a message
_SMALL_POOL_BYTES, _POOL_BYTES = 4096, 16384  # until 3.9, from 3.10 on
_SPLITS_COUNTS_SINCE = 12
_NO_OFFSET = 0xFFFFFFFF  # as in bpf/cow.h
_CAUSES = {cause: number for number, cause in enumerate(WriteCause, 1)}


class Interpreters:
    """The interpreters of processes that were asked about."""

    def __init__(self) -> None:
        self._processes: OrderedDict[Identity, PythonProcess] = OrderedDict()

    def explain(
        self,
        family: Sequence[Identity],
        owner: Identity | None,
        traced: TracedProcess | None,
        records: bytes,
        round_: int,
        open_: Open,
    ) -> dict[str, Any]:
        """The reply to a request: for each record the numbers of its cause and its type.

        0: unknown. `family`: the process, and those it may have been forked from; `owner`: the one
        of them that lives, or was known. `runtime`: the fields of its struct runtime, or None.
        """
        process = self._of(owner, traced, round_, open_) if owner and traced else None
        reply: dict[str, Any] = {"types": [], "written": [], "runtime": None}
        if process and process.runtime:
            reply["runtime"] = _addresses(process.runtime)
        readers = self._readers(family, process, round_)
        names = _Names(reply["types"])
        # One that shuts down has freed types; what it shared lies in the others as it was.
        running, ending = _together(readers, round_), _together(readers[::-1], round_)
        for at in range(0, len(records), RECORD_BYTES):
            record = WrittenWords.of(records[at : at + RECORD_BYTES])
            by = ending if record.finalizing else running
            cause, kind = explain(record, by) if by else (None, None)
            if by is None and not (process and process.alive):
                cause = WriteCause.UNKNOWN
            number = _CAUSES[cause] if cause else 0
            importing = _imports(readers, record.codes, process)
            reply["written"].append([number, names.number(kind.name) if kind else 0, importing])
        return reply

    def _readers(
        self, family: Sequence[Identity], owner: PythonProcess | None, round_: int
    ) -> list[PythonProcess]:
        """Those of the family whose memory has the same interpreter at the same place.

        A child that was forked has; one that executed another program since has not.
        """
        known = [self._processes[each] for each in family if each in self._processes]
        found: list[PythonProcess] = []
        for each in known:
            if each is not owner:
                each.alive = each.memory.is_alive()
                each.start_round(round_)
            if each.runtime and (not found or each.runtime == found[0].runtime):
                found.append(each)
        return found

    def with_python(
        self,
        owner: Identity,
        traced: TracedProcess,
        native: list[NativeFrame],
        python: list[list[int]],
        round_: int,
        open_: Open,
    ) -> list[NativeFrame] | list[MixedFrame]:
        """Frames with those of Python code in the places of the interpreter's."""
        process = self._of(owner, traced, round_, open_)
        if process.runtime is None or process.code is None:
            return native
        minor = process.runtime.layout.minor
        return mixed_stack(native, python, minor, process.code.at, process.is_call)

    def close(self) -> None:
        """Forget all."""
        while self._processes:
            self._processes.popitem()[1].memory.close()

    def _of(
        self, owner: Identity, traced: TracedProcess, round_: int, open_: Open
    ) -> PythonProcess:
        known = self._processes.pop(owner, None) or PythonProcess(ProcessMemory(open_))
        known.alive = known.memory.is_alive(traced.text)
        # It has ended, or executed another program: asked once a round, not for each stack.
        if not known.alive and known.round != round_:
            other = PythonProcess(ProcessMemory(open_))
            other.alive = other.memory.is_alive(traced.text)
            gone = known if other.alive else other
            gone.memory.close()
            known = other if other.alive else known
        self._processes[owner] = known
        if len(self._processes) > _MOST_PROCESSES:
            self._processes.popitem(last=False)[1].memory.close()
        if known.runtime is None and known.round != round_ and known.alive:
            known.find(traced, open_)
        known.start_round(round_)
        return known


def _together(readers: Sequence[PythonProcess], round_: int) -> Interpreter | None:
    """What several know of the same interpreter: the first answer counts."""
    runtime = readers[0].runtime if readers else None
    if runtime is None:
        return None
    reader = next((each for each in readers if each.alive), readers[0])

    def type_at(address: int) -> TypeInfo | None:
        return next((kind for each in readers if (kind := each.type_at(address))), None)

    return Interpreter(
        Memory(reader.memory.read), type_at, _pool_bytes(runtime),
        runtime.layout.minor >= _SPLITS_COUNTS_SINCE, reader.is_own, reader.pools_of(round_),
        reader.alive,
    )  # fmt: skip


def _imports(
    readers: Sequence[PythonProcess], codes: Iterable[int], owner: PythonProcess | None
) -> bool | None:
    """Whether the import system runs. None: what would tell it cannot be read any more."""
    alive = any(each.alive for each in readers) or bool(owner and owner.alive)
    unknown = not readers
    for code in filter(None, codes):
        found = next((is_ for each in readers if (is_ := each.imports(code)) is not None), None)
        if found:
            return True
        unknown |= found is None
    return None if unknown and not alive else False


def _pool_bytes(runtime: Runtime) -> int:
    return _POOL_BYTES if runtime.layout.minor > 9 else _SMALL_POOL_BYTES


def _addresses(runtime: Runtime) -> list[int]:
    """struct runtime of bpf/cow.h, in its order."""
    walk = frame_walk(runtime)
    first, second = (*walk.first, _NO_OFFSET)[:2]
    return [
        *(runtime.finalizing, runtime.collecting, *(runtime.counts or (0, 0))),
        *(walk.gil_holder, walk.code_mask, _pool_bytes(runtime)),
        *(walk.thread_id, first, second, walk.previous, walk.code, walk.instruction),
        *(walk.instruction_bytes, _NO_OFFSET if walk.owner is None else walk.owner - 1),
    ]


class _Names:
    """Numbers the names of a reply, from 1 on; 0 for those that have no room."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._numbers: dict[str, int] = {}
        self._left = _MOST_REPLY

    def number(self, name: str) -> int:
        name = name[:_MOST_NAME]
        if name not in self._numbers:
            self._left -= 6 * len(name)  # as JSON may write a character
            if self._left < 0:
                return 0
            self._names.append(name)
            self._numbers[name] = len(self._names)
        return self._numbers[name]
