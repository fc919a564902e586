"""Read a BPF ring buffer: records in the order in which they were submitted."""

from __future__ import annotations

import ctypes

from cowtrace.errors import CowtraceError
from cowtrace.kernel.libbpf import libbpf

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class Ring:
    """Reads the ring buffer with that file descriptor, at most `most` records at a time."""

    def __init__(self, fd: int, most: int = 1 << 16) -> None:
        self._lib = libbpf()
        self._most = most
        self._batch: list[bytes] = []
        self._callback = _CALLBACK(self._take)  # a reference: the library calls it
        self._ring = self._lib.ring_buffer__new(fd, self._callback, None, None)
        if not self._ring:
            raise CowtraceError(
                "cannot read a BPF ring buffer", hint="report this with `cowtrace doctor`"
            )

    def poll(self, timeout_seconds: float) -> list[bytes]:
        """The records that have arrived; waits at most `timeout_seconds` for the first."""
        self._lib.ring_buffer__poll(self._ring, round(timeout_seconds * 1000))
        batch, self._batch = self._batch, []
        return batch

    def close(self) -> None:
        """Idempotent."""
        ring, self._ring = self._ring, None
        if ring:
            self._lib.ring_buffer__free(ring)

    def _take(self, _context: int, data: int, size: int) -> int:
        self._batch.append(ctypes.string_at(data, size))
        return -(len(self._batch) >= self._most)  # a negative value ends the library's loop
