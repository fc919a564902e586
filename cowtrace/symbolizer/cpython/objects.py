"""Read strings, bytes objects and dictionaries of a process."""

from __future__ import annotations

from collections.abc import Iterator

from cowtrace.symbolizer.cpython.memory import WORD_BYTES, Memory, UnreadableError
from cowtrace.symbolizer.cpython.offsets import (
    DICT_SUBCLASS,
    UNICODE_ASCII,
    UNICODE_COMPACT,
    UNICODE_KIND_MASK,
    UNICODE_KIND_SHIFT,
)
from cowtrace.symbolizer.cpython.runtime import Runtime

_ENCODINGS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}  # by the bytes of a character
_MOST_CHARACTERS = 1000
_MOST_KEYS = 1024  # of a dictionary
_GENERAL_ENTRY = 3 * WORD_BYTES  # PyDictKeyEntry: hash, key, value
_UNICODE_ENTRY = 2 * WORD_BYTES  # PyDictUnicodeEntry: key, value; from 3.11 on
_LARGEST_INDEX_BYTES = 32  # as an exponent of 2
# Until 3.10: the bytes of an index, by the number of slots (DK_IXSIZE).
_INDEX_BYTES = ((0xFF, 1), (0xFFFF, 2), (0xFFFFFFFF, 4))


class Objects:
    """The objects of one process. Methods raise UnreadableError."""

    def __init__(self, memory: Memory, runtime: Runtime) -> None:
        self.memory = memory
        self.runtime = runtime
        self.layout = runtime.layout

    def type_of(self, address: int) -> int:
        """The address of an object's type."""
        return self.memory.word(address + self.layout.ob_type)

    def text(self, address: int) -> str:
        """A `str`, cut after 1,000 characters."""
        self._expect(address, self.runtime.unicode_type)
        length = self.memory.signed(address + self.layout.unicode_length)
        state = self.memory.int32(address + self.layout.unicode_state)
        kind = state >> UNICODE_KIND_SHIFT & UNICODE_KIND_MASK
        if length < 0 or kind not in _ENCODINGS or not state & UNICODE_COMPACT:
            raise UnreadableError
        layout = self.layout
        start = layout.ascii_bytes if state & UNICODE_ASCII else layout.compact_bytes
        data = self.memory.bytes_at(address + start, min(length, _MOST_CHARACTERS) * kind)
        return data.decode(_ENCODINGS[kind], errors="backslashreplace")

    def data(self, address: int, limit: int) -> bytes:
        """The content of a `bytes`, cut after `limit` bytes."""
        self._expect(address, self.runtime.bytes_type)
        length = self.memory.signed(address + self.layout.ob_size)
        if length < 0:
            raise UnreadableError
        return self.memory.bytes_at(address + self.layout.ob_sval, min(length, limit))

    def value(self, dictionary: int, key: str) -> int:
        """The address of the value of a `str` key, among the first 1,024 keys."""
        for key_address, value in self._items(dictionary):
            if value and self._is_text(key_address, key):
                return value
        raise UnreadableError

    def _expect(self, address: int, type_: int) -> None:
        if self.type_of(address) != type_:
            raise UnreadableError

    def _is_text(self, address: int, text: str) -> bool:
        """Whether a `str` of ASCII characters lies there. False, too, if it is unreadable."""
        layout = self.layout
        try:
            return (
                self.type_of(address) == self.runtime.unicode_type
                and self.memory.signed(address + layout.unicode_length) == len(text)
                and self.memory.bytes_at(address + layout.ascii_bytes, len(text)) == text.encode()
            )
        except UnreadableError:
            return False

    def _items(self, dictionary: int) -> Iterator[tuple[int, int]]:
        """(key, value) of a dictionary that has its own keys, in the order of insertion."""
        memory, layout = self.memory, self.layout
        # Until 3.12, types of ctypes have a subclass of `dict`.
        if not memory.word(self.type_of(dictionary) + layout.tp_flags) & DICT_SUBCLASS:
            raise UnreadableError
        if memory.word(dictionary + layout.ma_values):
            raise UnreadableError  # keys that are shared by instances of a class
        keys = memory.word(dictionary + layout.ma_keys)
        entry_bytes = _GENERAL_ENTRY
        if layout.dk_kind is not None and memory.bytes_at(keys + layout.dk_kind, 1)[0]:
            entry_bytes = _UNICODE_ENTRY
        count = min(memory.signed(keys + layout.dk_nentries), _MOST_KEYS)
        if count < 0:
            raise UnreadableError
        entries = keys + layout.dk_indices + self._index_bytes(keys)
        data = memory.bytes_at(entries, count * entry_bytes)
        for at in range(0, len(data), entry_bytes):
            pair = data[at + entry_bytes - 2 * WORD_BYTES : at + entry_bytes]
            yield (
                int.from_bytes(pair[:WORD_BYTES], "little"),
                int.from_bytes(pair[WORD_BYTES:], "little"),
            )

    def _index_bytes(self, keys: int) -> int:
        """The size of the hash table's indices, in front of the entries."""
        if self.layout.dk_log2_index_bytes is not None:
            exponent = self.memory.bytes_at(keys + self.layout.dk_log2_index_bytes, 1)[0]
            if exponent > _LARGEST_INDEX_BYTES:
                raise UnreadableError
            return 1 << exponent
        if self.layout.dk_size is None:
            raise UnreadableError
        slots = self.memory.word(keys + self.layout.dk_size)
        return slots * next((size for most, size in _INDEX_BYTES if slots <= most), WORD_BYTES)
