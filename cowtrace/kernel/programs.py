"""Create BPF maps and load programs with low-level calls of libbpf.

All functions raise OSError if the kernel refuses.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from cowtrace.kernel.libbpf import libbpf
from cowtrace.libc import checked

# include/uapi/linux/bpf.h
KPROBE, RAW_TRACEPOINT, TRACING = 2, 17, 26
FENTRY, FEXIT = 24, 25
_NAME_BYTES = 15
_LOWEST_OWN = 512  # RLIMIT_NOFILE is 1024 nearly everywhere
_LOG_BYTES = 1 << 20  # of the verifier's log; kernels before 6.4 fail if it does not fit


@dataclass(frozen=True, slots=True)
class MapSpec:
    """The properties of a map: the head of struct bpf_map_info, without its id."""

    name: str
    kind: int  # enum bpf_map_type
    key_bytes: int
    value_bytes: int
    max_entries: int
    flags: int


_U32, _PTR, _SIZE = ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t


def _fields(kind: type, names: str) -> Iterator[tuple[str, type]]:
    """Fields of one type, for a ctypes.Structure."""
    return ((name, kind) for name in names.split())


# The heads of three structs of libbpf's bpf.h; `sz` says how much of the struct there is.
class _MapOptions(ctypes.Structure):
    _fields_ = (
        ("sz", _SIZE),
        *_fields(_U32, "btf_fd btf_key_type_id btf_value_type_id btf_vmlinux_value_type_id"),
        *_fields(_U32, "inner_map_fd map_flags"),
    )


class _LoadOptions(ctypes.Structure):
    _fields_ = (
        ("sz", _SIZE),
        *_fields(_U32, "attempts expected_attach_type prog_btf_fd prog_flags prog_ifindex"),
        *_fields(_U32, "kern_version attach_btf_id attach_prog_fd attach_btf_obj_fd"),
        *_fields(_PTR, "fd_array func_info"),
        *_fields(_U32, "func_info_cnt func_info_rec_size"),
        ("line_info", _PTR),
        *_fields(_U32, "line_info_cnt line_info_rec_size log_level log_size"),
        ("log_buf", ctypes.c_char_p),
    )


class _RunOptions(ctypes.Structure):
    _fields_ = (
        ("sz", _SIZE),
        *_fields(_PTR, "data_in data_out"),
        *_fields(_U32, "data_size_in data_size_out"),
        *_fields(_PTR, "ctx_in ctx_out"),
        *_fields(_U32, "ctx_size_in ctx_size_out retval repeat duration flags cpu batch_size"),
    )


def moved_high(fd: int) -> int:
    """The same file under a descriptor that no library opens or, by mistake, closes."""
    try:
        high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST_OWN)
    except OSError:  # RLIMIT_NOFILE is less
        return fd
    os.close(fd)
    return high


def map_spec(name: str, fd: int) -> MapSpec:
    """The properties of an open map."""
    info = (ctypes.c_uint32 * 6)()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    checked(libbpf().bpf_obj_get_info_by_fd(fd, info, ctypes.byref(size)))
    kind, _, key_bytes, value_bytes, max_entries, flags = info
    return MapSpec(name, kind, key_bytes, value_bytes, max_entries, flags)


def create_map(spec: MapSpec) -> int:
    """An empty map."""
    options = _MapOptions(sz=ctypes.sizeof(_MapOptions), map_flags=spec.flags)
    fd = libbpf().bpf_map_create(
        spec.kind,
        spec.name[:_NAME_BYTES].encode(),
        spec.key_bytes,
        spec.value_bytes,
        spec.max_entries,
        ctypes.byref(options),
    )
    return moved_high(checked(fd))


def try_program(kind: int, code: bytes, attach_type: int = 0, btf_id: int = 0) -> int:
    """Load a program without reading the verifier's log: does this kernel accept it?"""
    return checked(_load(kind, "trial", code, _load_options(attach_type, btf_id)))


def load_program(kind: int, name: str, code: bytes, attach_type: int = 0, btf_id: int = 0) -> int:
    """Load instructions; `btf_id` is that of the traced function (TRACING).

    The error ends with the last line of the verifier's log, if there is one.
    """
    options = _load_options(attach_type, btf_id)
    try:
        return moved_high(checked(_load(kind, name, code, options)))
    except OSError as error:
        log = ctypes.create_string_buffer(_LOG_BYTES)
        options.log_level, options.log_size = 1, _LOG_BYTES
        options.log_buf = ctypes.cast(log, ctypes.c_char_p)
        if (program := _load(kind, name, code, options)) >= 0:
            return moved_high(program)
        said = log.value.decode(errors="replace").strip().splitlines()
        reasons = [line for line in said if not line.startswith("processed ")]
        if not reasons:
            raise
        raise OSError(error.errno, f"{error.strerror}: {name}: {reasons[-1]}") from None


def _load_options(attach_type: int, btf_id: int) -> _LoadOptions:
    return _LoadOptions(
        sz=ctypes.sizeof(_LoadOptions), expected_attach_type=attach_type, attach_btf_id=btf_id
    )


def _load(kind: int, name: str, code: bytes, options: _LoadOptions) -> int:
    loaded: int = libbpf().bpf_prog_load(
        kind, name[:_NAME_BYTES].encode(), b"GPL", code, len(code) // 8, ctypes.byref(options)
    )
    return loaded


def instruction(
    code: int, *, to: int = 0, source: int = 0, offset: int = 0, immediate: int = 0
) -> bytes:
    """One instruction: struct bpf_insn."""
    immediate &= 0xFFFFFFFF
    return struct.pack("<BBhI", code, source << 4 | to, offset, immediate)


def run_once(program: int, *arguments: int) -> int:
    """Run a raw tracepoint's program now, with these arguments: its return value, of 32 bits."""
    given = (ctypes.c_uint64 * len(arguments))(*arguments)
    options = _RunOptions(
        sz=ctypes.sizeof(_RunOptions),
        ctx_in=ctypes.addressof(given),
        ctx_size_in=ctypes.sizeof(given),
    )
    checked(libbpf().bpf_prog_test_run_opts(program, ctypes.byref(options)))
    return int(options.retval)


def open_raw_tracepoint(name: str | None, program: int) -> int:
    """A link: attached while it is open. A TRACING program names its function: it needs no name."""
    return moved_high(checked(libbpf().bpf_raw_tracepoint_open(name and name.encode(), program)))
