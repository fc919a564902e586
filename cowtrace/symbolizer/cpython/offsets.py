"""Define what is known of the memory layout of one version of CPython, in 64 bits."""

from __future__ import annotations

from dataclasses import dataclass

POINTER_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Offsets in bytes. Names are those of CPython's structs and members.

    Defaults are the same in 3.9 to 3.14. None: this version does not have the member.
    """

    minor: int  # 11: CPython 3.11

    # PyObject, PyVarObject: Include/object.h
    ob_refcnt: int = 0
    ob_type: int = 8
    ob_size: int = 16
    refcount_bytes: int = 8  # that a change of the reference count can write
    # A reference count with this bit is that of an immortal object, and is never written
    # (PEP 683: _Py_IsImmortal() of 3.12 to 3.14 tests the sign of the lower 32 bits).
    immortal_bit: int | None

    # PyTypeObject: Include/cpython/object.h
    type_bytes: int
    tp_name: int = 24
    tp_basicsize: int = 32
    tp_itemsize: int = 40
    tp_flags: int = 168
    tp_dict: int = 264
    # PyHeapTypeObject
    heap_type_bytes: int  # what tp_basicsize of `type` is
    ht_name: int
    ht_qualname: int
    ht_module: int

    # PyGC_Head, and what lies in front of it: _PyType_PreHeaderSize(), Include/internal/pycore_gc.h
    # or pycore_object.h. Until 3.10, nothing does.
    gc_head_bytes: int = 16
    pre_header_bytes: int = 16  # of types with a flag of pre_header_flags
    pre_header_flags: int  # 3.11: MANAGED_DICT; from 3.12 on: PREHEADER, of two flags
    inline_values_flag: int = 0  # from 3.13 on: values of attributes lie behind the object

    # PyASCIIObject, PyCompactUnicodeObject: Include/cpython/unicodeobject.h
    unicode_length: int = 16
    unicode_state: int = 32
    ascii_bytes: int  # sizeof(PyASCIIObject): where the text begins
    compact_bytes: int  # sizeof(PyCompactUnicodeObject): where other text begins

    # PyBytesObject
    ob_sval: int = 32

    # PyDictObject, PyDictKeysObject: Objects/dict-common.h, from 3.11 on
    # Include/internal/pycore_dict.h
    ma_keys: int = 32
    ma_values: int = 40
    dk_size: int | None = None  # until 3.10: a Py_ssize_t
    dk_log2_index_bytes: int | None = None  # from 3.11 on: one byte
    dk_kind: int | None = None  # from 3.11 on: one byte; DICT_KEYS_GENERAL is 0
    dk_nentries: int
    dk_indices: int

    # PyCodeObject: Include/cpython/code.h
    co_filename: int
    co_name: int
    co_qualname: int | None = None  # from 3.11 on
    co_firstlineno: int
    co_linetable: int  # 3.9: co_lnotab
    co_code_adaptive: int | None = None  # from 3.11 on: where the instructions begin

    # _PyRuntimeState: Include/internal/pycore_runtime.h
    finalizing: int
    interpreters_main: int
    runtime_gil_holder: int | None = None  # ceval.gil.last_holder; until 3.11, one GIL for all

    # PyInterpreterState: Include/internal/pycore_interp.h
    interpreter_gil: int | None = None  # ceval.gil, a pointer; from 3.12 on
    gil_last_holder: int | None = None  # of struct _gil_runtime_state
    threads_head: int  # 3.9, 3.10: tstate_head
    gc: int

    # struct _gc_runtime_state: Include/internal/pycore_gc.h
    gc_collecting: int
    gc_generations: int = 24  # three of struct gc_generation
    gc_generation_bytes: int = 24
    gc_generation_count: int = 20

    # PyThreadState: Include/cpython/pystate.h
    thread_interp: int = 16
    thread_id: int  # what pthread_self() returned
    native_thread_id: int | None = None  # from 3.11 on: what gettid() returned
    # How the thread's current frame is found: *(tstate + first), or, if there is a second,
    # *(*(tstate + first) + second).
    thread_frame: tuple[int, ...]

    # _PyInterpreterFrame: Include/internal/pycore_frame.h; until 3.10 PyFrameObject
    frame_previous: int
    frame_code: int
    frame_code_mask: int = (1 << 64) - 1  # without the tag bits of a _PyStackRef
    frame_instruction: int  # until 3.10 f_lasti, an int; then prev_instr or instr_ptr, a pointer
    lasti_unit_bytes: int | None = None  # what f_lasti counts; None: it is a pointer
    frame_owner: int | None = None  # one byte, from 3.11 on

    def immortal(self, refcount: int) -> bool:
        """Whether a word at ob_refcnt is that of an object that is never freed."""
        return self.immortal_bit is not None and bool(refcount >> self.immortal_bit & 1)

    def generation_count(self, generation: int) -> int:
        """Of the count of one of three generations, in struct _gc_runtime_state."""
        return (
            self.gc_generations + generation * self.gc_generation_bytes + self.gc_generation_count
        )


# tp_flags: Include/object.h, the same in 3.9 to 3.14
HEAP_TYPE = 1 << 9
READY = 1 << 12
HAVE_GC = 1 << 14
DICT_SUBCLASS = 1 << 29  # `dict` has it, too
TYPE_SUBCLASS = 1 << 31
# Not the same in all versions
MANAGED_WEAKREF = 1 << 3  # from 3.12 on
MANAGED_DICT = 1 << 4  # from 3.11 on
INLINE_VALUES = 1 << 2  # from 3.13 on

# struct of PyASCIIObject.state: the same in 3.9 to 3.14
UNICODE_KIND_SHIFT, UNICODE_KIND_MASK = 2, 7  # 1, 2 or 4 bytes a character
UNICODE_COMPACT = 1 << 5
UNICODE_ASCII = 1 << 6
