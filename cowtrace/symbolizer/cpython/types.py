"""Name the type objects of a process."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from cowtrace.symbolizer.cpython.memory import Memory, Read, UnreadableError
from cowtrace.symbolizer.cpython.objects import Objects
from cowtrace.symbolizer.cpython.offsets import HAVE_GC, HEAP_TYPE, READY, TYPE_SUBCLASS
from cowtrace.symbolizer.cpython.runtime import Runtime

_MOST_ADDRESSES = 8192  # that are remembered; then those of no type are forgotten
_MOST_TYPES = 4096  # if they are more even then, all are forgotten
_DEEPEST_METACLASS = 8
_LARGEST_BASIC_BYTES = 1 << 20
_LARGEST_ITEM_BYTES = 1 << 16
_NAME_BYTES = 500
_BUILTINS = "builtins"


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """One type, and how its instances lie in memory."""

    # As repr() of the type shows it, without `builtins.`: `dict`, `collections.OrderedDict`,
    # `shop.Item`, `shop.make.<locals>.Item`. Hostile.
    name: str
    basic_bytes: int  # of an instance, from ob_refcnt on, without items
    item_bytes: int  # of each of its items; 0: it has none
    has_gc: bool  # a PyGC_Head lies in front of an instance, unless it is a static type
    pre_header_bytes: int  # of pointers to a __dict__ and to weak references, in front of PyGC_Head
    inline_values: bool  # attribute values lie behind an instance


@dataclass(slots=True)
class _Known:
    """What was read at one address."""

    info: TypeInfo | None  # None: no type object
    words: bytes  # that change when another type object takes the place
    round: int


class TypeNames:
    """The types of one process, by the addresses of their type objects.

    What was read is remembered, since the process may have ended by the next write, and compared
    once a round with what lies there.
    """

    def __init__(self, read: Read, runtime: Runtime) -> None:
        self._objects = Objects(Memory(read), runtime)
        self._known: dict[int, _Known] = {}
        self._round = 0

    def at(self, address: int) -> TypeInfo | None:
        """The type whose type object lies at that address. None: none does."""
        known = self._known.get(address)
        if known and known.round == self._round:
            return known.info
        words = b""
        found = None
        with suppress(UnreadableError):
            words = self._words(address)
        if known and known.info and words in (known.words, b""):  # unreadable: as it was
            known.round = self._round
            return known.info
        with suppress(UnreadableError):
            found = self._read(address)
        if len(self._known) >= _MOST_ADDRESSES:
            self._known = {at: one for at, one in self._known.items() if one.info}
            if len(self._known) > _MOST_TYPES:
                self._known.clear()
        self._known[address] = _Known(found, words, self._round)
        return found

    def start_round(self) -> None:
        """An address may be another object's by now."""
        self._round += 1

    def _words(self, address: int) -> bytes:
        memory, layout = self._objects.memory, self._objects.layout
        head = memory.bytes_at(address + layout.ob_type, layout.tp_flags + 8 - layout.ob_type)
        flags = int.from_bytes(head[-8:], "little")
        # Without ob_size, which is in between: it does not change.
        if flags & HEAP_TYPE:
            head += memory.bytes_at(address + layout.ht_qualname, 8)
        return head

    def _read(self, address: int) -> TypeInfo | None:
        memory, layout = self._objects.memory, self._objects.layout
        if not self._is_type(address):
            return None
        flags = memory.word(address + layout.tp_flags)
        basic_bytes = memory.signed(address + layout.tp_basicsize)
        item_bytes = memory.signed(address + layout.tp_itemsize)
        if not (
            flags & READY
            and layout.ob_size <= basic_bytes <= _LARGEST_BASIC_BYTES
            and 0 <= item_bytes <= _LARGEST_ITEM_BYTES
        ):
            return None
        name = self._name(address, flags)
        if not name:
            return None
        return TypeInfo(
            name,
            basic_bytes,
            item_bytes,
            bool(flags & HAVE_GC),
            layout.pre_header_bytes if flags & layout.pre_header_flags else 0,
            bool(flags & layout.inline_values_flag),
        )

    def _is_type(self, address: int) -> bool:
        """Whether the object there is an instance of `type`, or of a metaclass."""
        objects = self._objects
        for _ in range(_DEEPEST_METACLASS):
            metaclass = objects.type_of(address)
            if metaclass == objects.runtime.type_type:
                return True
            if not objects.memory.word(metaclass + objects.layout.tp_flags) & TYPE_SUBCLASS:
                return False
            address = metaclass
        return False

    def _name(self, address: int, flags: int) -> str:
        memory, layout = self._objects.memory, self._objects.layout
        plain = memory.c_string(memory.word(address + layout.tp_name), _NAME_BYTES)
        if not flags & HEAP_TYPE:
            return plain
        with suppress(UnreadableError):
            name = self._objects.text(memory.word(address + layout.ht_qualname))
            with suppress(UnreadableError):
                module = self._module(address)
                return name if module == _BUILTINS else f"{module}.{name}"
            return plain if "." in plain else name
        return plain

    def _module(self, address: int) -> str:
        """Its `__module__`."""
        layout = self._objects.layout
        dictionary = self._objects.memory.word(address + layout.tp_dict)
        return self._objects.text(self._objects.value(dictionary, "__module__"))
