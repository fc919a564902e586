"""A ProbePlan in, running programs out, compiled by BCC. Only `loader*.py` import bcc."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from cowtrace.bpf_source import bpf_dir
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.plan import ProbePlan
from cowtrace.kernel.programs import map_spec
from cowtrace.tracer.compiled import Compiled, with_maps
from cowtrace.tracer.kprobes import Kprobes


class Refused(CowtraceError):
    """This kernel refused to load or attach a plan's programs."""

    def __init__(self, plan: ProbePlan, reason: str, log: str) -> None:
        super().__init__(
            f"this kernel refused the {plan.name} plan: {reason}",
            hint="see what it offers: cowtrace doctor",
            exit_code=EXIT_NO_PLAN,
        )
        self.log = log  # what BCC, clang and the verifier wrote to stderr


class Built:
    """Programs attached, maps open. Raises Refused, and leaves nothing."""

    def __init__(self, plan: ProbePlan, text: str, flags: Sequence[str]) -> None:
        bpf_class = import_bcc()
        self._bpf: Any = None
        self._kprobes = Kprobes()
        with _stderr_to_file() as log:
            try:
                # In two steps: BCC attaches some programs while it is being made, and when it
                # refuses a later one, there must be something to clean up.
                self._bpf = bpf_class.__new__(bpf_class)
                self._bpf.__init__(text=text, cflags=flags)
                for hook in plan.hooks:
                    program = self._bpf.load_func(hook.program, bpf_class.KPROBE)
                    self._kprobes.attach(hook, program.fd)
            except Exception as error:  # BCC raises bare Exception for every failure
                self.close()
                raise Refused(plan, str(error), log()) from None
        self.maps = self._maps()
        self.programs = {name.decode(): f.fd for name, f in self._bpf.funcs.items()}

    def compiled(self) -> Compiled:
        """What to load at the next start. Raises ValueError when that would not be the same."""
        places = {fd: place for place, fd in enumerate(self.maps.values())}
        return Compiled(
            tuple(map_spec(name, fd) for name, fd in self.maps.items()),
            tuple(
                (name, with_maps(self._bpf.dump_func(name), places.__getitem__))
                for name in self.programs
            ),
        )

    def trim(self) -> None:
        """Give back what the compiler used; the library itself stays."""
        ctypes.CDLL(None).malloc_trim(0)

    def close(self) -> None:
        """Detach in the reverse order and unload. Idempotent."""
        bpf, self._bpf = self._bpf, None
        if bpf is None:
            return
        self._kprobes.close()
        with suppress(AttributeError):  # it did not get as far as having something to clean up
            bpf.cleanup()

    def _maps(self) -> dict[str, int]:
        from bcc.libbcc import lib

        module = self._bpf.module
        # BCC's Python module does not declare these two, which are as old as the others.
        name_of, fd_of = lib.bpf_table_name, lib.bpf_table_fd_id
        name_of.argtypes = fd_of.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        name_of.restype = ctypes.c_char_p
        return {
            name_of(module, i).decode(): fd_of(module, i) for i in range(lib.bpf_num_tables(module))
        }


@cache  # symbols are asked for by the thousand
def import_bcc() -> Any:
    """BCC's class BPF. Raises CowtraceError when it is not installed."""
    # BCC reads its "kernel headers" from here: a handful of stubs, see bpf/bcc-headers.
    os.environ["BCC_KERNEL_SOURCE"] = str(bpf_dir() / "bcc-headers")
    missing = CowtraceError(
        "BCC's Python module is missing",
        hint="apt install python3-bpfcc (PyPI's bcc is another program); "
        "a venv needs --system-site-packages",
        exit_code=EXIT_NO_PLAN,
    )
    try:
        import bcc
    except ImportError:
        raise missing from None
    if not hasattr(bcc, "BPF"):
        raise missing
    return bcc.BPF


@contextmanager
def _stderr_to_file() -> Iterator[Any]:
    """Catch what C libraries write to stderr meanwhile; yields a function that reads it."""
    saved = os.dup(2)
    with os.fdopen(os.memfd_create("stderr"), "r+b") as file:

        def written() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        os.dup2(file.fileno(), 2)
        try:
            yield written
        finally:
            os.dup2(saved, 2)
            os.close(saved)
