"""Load libbpf with ctypes, and declare the functions that cowtrace calls.

BCC has no BTF reader and reads maps one key at a time; libbpf reads BTF, and maps in batches.
"""

from __future__ import annotations

import ctypes as c
from functools import cache

from cowtrace.errors import EXIT_NO_PLAN, CowtraceError

_INT, _U32, _U64, _SIZE = c.c_int, c.c_uint32, c.c_uint64, c.c_size_t
_STRING, _POINTER = c.c_char_p, c.c_void_p

# Function: result, arguments.
_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "btf__parse": (_POINTER, (_STRING, _POINTER)),
    "btf__find_by_name_kind": (_INT, (_POINTER, _STRING, _U32)),
    "btf__type_by_id": (_POINTER, (_POINTER, _U32)),
    "btf__name_by_offset": (_STRING, (_POINTER, _U32)),
    "bpf_prog_load": (_INT, (_U32, _STRING, _STRING, _POINTER, _SIZE, _POINTER)),
    "bpf_map_create": (_INT, (_U32, _STRING, _U32, _U32, _U32, _POINTER)),
    "bpf_prog_test_run_opts": (_INT, (_INT, _POINTER)),
    "bpf_raw_tracepoint_open": (_INT, (_STRING, _INT)),
    "bpf_enable_stats": (_INT, (_INT,)),
    "bpf_map_lookup_batch": (_INT, (_INT, *6 * (_POINTER,))),
    "bpf_map_delete_batch": (_INT, (_INT, _POINTER, _POINTER, _POINTER)),
    "bpf_map_lookup_elem": (_INT, (_INT, _POINTER, _POINTER)),
    "bpf_map_update_elem": (_INT, (_INT, _POINTER, _POINTER, _U64)),
    "bpf_map_delete_elem": (_INT, (_INT, _POINTER)),
    "bpf_prog_get_fd_by_id": (_INT, (_U32,)),
    "bpf_obj_get_info_by_fd": (_INT, (_INT, _POINTER, _POINTER)),
    "ring_buffer__new": (_POINTER, (_INT, _POINTER, _POINTER, _POINTER)),
    "ring_buffer__poll": (_INT, (_POINTER, _INT)),
    "ring_buffer__free": (None, (_POINTER,)),
    "libbpf_num_possible_cpus": (_INT, ()),
    "libbpf_set_print": (_POINTER, (_POINTER,)),
}


@cache
def libbpf() -> c.CDLL:
    """The loaded library, silent on stderr.

    Raises:
        CowtraceError: libbpf 1.x is not installed.
    """
    try:
        library = c.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise CowtraceError(
            f"cannot load libbpf: {error}",
            hint="install it: apt install libbpf1",
            exit_code=EXIT_NO_PLAN,
        ) from None
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print(None)
    return library
