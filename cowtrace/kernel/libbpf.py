"""libbpf by ctypes: the functions that cowtrace calls directly, typed once.

BCC brings no BTF reader and reads maps one key at a time; libbpf has both, in C.
"""

from __future__ import annotations

import ctypes as c
from functools import cache

from cowtrace.errors import EXIT_NO_PLAN, CowtraceError

_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "btf__parse": (c.c_void_p, (c.c_char_p, c.c_void_p)),
    "btf__find_by_name_kind": (c.c_int, (c.c_void_p, c.c_char_p, c.c_uint32)),
    "btf__type_by_id": (c.c_void_p, (c.c_void_p, c.c_uint32)),
    "btf__name_by_offset": (c.c_char_p, (c.c_void_p, c.c_uint32)),
    "bpf_prog_load": (
        c.c_int,
        (c.c_uint, c.c_char_p, c.c_char_p, c.c_void_p, c.c_size_t, c.c_void_p),
    ),
    "bpf_map_create": (
        c.c_int,
        (c.c_uint, c.c_char_p, c.c_uint32, c.c_uint32, c.c_uint32, c.c_void_p),
    ),
    "bpf_prog_test_run_opts": (c.c_int, (c.c_int, c.c_void_p)),
    "bpf_raw_tracepoint_open": (c.c_int, (c.c_char_p, c.c_int)),
    "bpf_enable_stats": (c.c_int, (c.c_int,)),
    "bpf_map_lookup_batch": (
        c.c_int,
        (
            c.c_int,
            c.c_void_p,
            c.c_void_p,
            c.c_void_p,
            c.c_void_p,
            c.POINTER(c.c_uint32),
            c.c_void_p,
        ),
    ),
    "bpf_map_delete_batch": (
        c.c_int,
        (c.c_int, c.c_void_p, c.POINTER(c.c_uint32), c.c_void_p),
    ),
    "bpf_map_lookup_elem": (c.c_int, (c.c_int, c.c_void_p, c.c_void_p)),
    "bpf_map_update_elem": (c.c_int, (c.c_int, c.c_void_p, c.c_void_p, c.c_uint64)),
    "bpf_map_delete_elem": (c.c_int, (c.c_int, c.c_void_p)),
    "bpf_prog_get_fd_by_id": (c.c_int, (c.c_uint32,)),
    "bpf_obj_get_info_by_fd": (c.c_int, (c.c_int, c.c_void_p, c.POINTER(c.c_uint32))),
    "ring_buffer__new": (c.c_void_p, (c.c_int, c.c_void_p, c.c_void_p, c.c_void_p)),
    "ring_buffer__poll": (c.c_int, (c.c_void_p, c.c_int)),
    "ring_buffer__free": (None, (c.c_void_p,)),
    "libbpf_num_possible_cpus": (c.c_int, ()),
    "libbpf_set_print": (c.c_void_p, (c.c_void_p,)),
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
