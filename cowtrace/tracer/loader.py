"""A ProbePlan in, running BPF programs out. The only module that imports bcc."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from cowtrace.bpf_source import bpf_dir
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.btf import vmlinux
from cowtrace.kernel.hooks import Hook
from cowtrace.kernel.misses import misses
from cowtrace.kernel.plan import ProbePlan
from cowtrace.tracer.guardian import MAXACTIVE, Guardian, kprobe_events
from cowtrace.tracer.source import bpf_text


class Refused(CowtraceError):
    """This kernel refused to load or attach a plan's programs."""

    def __init__(self, plan: ProbePlan, reason: str, log: str) -> None:
        super().__init__(
            f"this kernel refused the {plan.name} plan: {reason}",
            hint="see what it offers: cowtrace doctor",
            exit_code=EXIT_NO_PLAN,
        )
        self.log = log  # what BCC, clang and the verifier wrote to stderr


class Loaded:
    """Programs attached, maps open. `close` detaches; so does the end of the process."""

    def __init__(self, plan: ProbePlan, options: Mapping[str, int]) -> None:
        bpf_class = _import_bcc()
        defines = {**plan.defines, **options}
        flags = [f"-D{name}={value}" for name, value in defines.items()]
        self._plan = plan
        self._bpf: Any = None
        self._guardian: Guardian | None = None
        with _stderr_to_file() as log:
            try:
                # In two steps: BCC attaches some programs while it is being made, and when it
                # refuses a later one, there must be something to clean up.
                self._bpf = bpf_class.__new__(bpf_class)
                self._bpf.__init__(text=bpf_text(bpf_dir()), cflags=flags)
                for hook in plan.hooks:
                    self._attach(hook)
            except Exception as error:  # BCC raises bare Exception for every failure
                self.close()
                raise Refused(plan, str(error), log()) from None

    def _attach(self, hook: Hook) -> None:
        if hook.kind == "kprobe":
            self._bpf.attach_kprobe(event=hook.target, fn_name=hook.program)
            return
        events = kprobe_events()
        if events and not self._guardian:
            self._guardian = Guardian(events)
        attach = self._bpf.attach_kretprobe
        if events:
            with suppress(Exception):  # another tracer of this process has the event of that name
                attach(event=hook.target, fn_name=hook.program, maxactive=MAXACTIVE)
                return
        attach(event=hook.target, fn_name=hook.program)

    def map_fd(self, name: str) -> int:
        """File descriptor of a map, for maps.read_*."""
        fd: int = self._bpf[name].map_fd
        return fd

    def symbol(self, address: int, pid: int | None) -> tuple[str, str]:
        """(function, module's file name) of an address; pid None: the kernel's. Empty: unknown."""
        bpf = _import_bcc()
        if pid is None:
            return bpf.ksym(address).decode(errors="backslashreplace"), "[kernel]"
        name: bytes = bpf.sym(address, pid, show_module=True)
        symbol, _, module = name.decode(errors="backslashreplace").rpartition(" [")
        return symbol or module, module.removesuffix("]") if symbol else ""

    def missed(self) -> int:
        """Faults for which the kernel passed a program over, since loading."""
        funcs = self._bpf.funcs
        return sum(misses(vmlinux(), funcs[name].fd) for name in funcs if _counts_faults(name))

    def close(self) -> None:
        """Detach in the reverse order and unload. Idempotent."""
        bpf, self._bpf = self._bpf, None
        if bpf is None:
            return
        for hook in reversed(self._plan.hooks):
            with suppress(Exception):  # not attached: the failure is already being reported
                getattr(bpf, f"detach_{hook.kind}")(event=hook.target, fn_name=hook.program)
        with suppress(AttributeError):  # it did not get as far as having something to clean up
            bpf.cleanup()
        if self._guardian:
            self._guardian.close()


def _counts_faults(program: bytes) -> bool:
    """The programs that see a fault's end by themselves; kprobe pairs notice a lack themselves."""
    return program.startswith(b"kretfunc__") or program.endswith(
        (b"page_fault_user", b"page_fault_kernel", b"mm_page_alloc")
    )


def _import_bcc() -> Any:
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
    with tempfile.TemporaryFile() as file:

        def written() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        os.dup2(file.fileno(), 2)
        try:
            yield written
        finally:
            os.dup2(saved, 2)
            os.close(saved)
