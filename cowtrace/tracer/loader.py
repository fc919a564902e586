"""Load the BPF programs of a ProbePlan: compiled now, or at an earlier start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from cowtrace import cache as kept
from cowtrace.bpf_source import bpf_dir
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.btf import vmlinux
from cowtrace.kernel.plan import ProbePlan
from cowtrace.kernel.skipped import misses
from cowtrace.kernel.statistics import run_time
from cowtrace.tracer.compiled import Compiled
from cowtrace.tracer.compiler import CompileError, compiled, import_bcc
from cowtrace.tracer.loader_direct import Direct
from cowtrace.tracer.source import bpf_text

__all__ = ["Loaded", "Refused"]


class Refused(CowtraceError):
    """This kernel refused to load or attach a plan's programs, or BCC to compile them."""

    def __init__(self, plan: ProbePlan, reason: str) -> None:
        super().__init__(
            f"this kernel refused the {plan.name} plan: {reason}",
            hint="see what it offers: cowtrace doctor",
            exit_code=EXIT_NO_PLAN,
        )


class Loaded:
    """Programs attached, maps open. `close` detaches; so does the end of the process."""

    def __init__(self, plan: ProbePlan, options: Mapping[str, int]) -> None:
        flags = [f"-D{name}={value}" for name, value in {**plan.defines, **options}.items()]
        key = kept.key(*_sources(), repr(plan.hooks), _bcc_version(), *flags)
        self._loaded = _kept(plan, key) or _built(plan, key, flags)
        programs = self._loaded.programs
        self._counting = [name for name in programs if plan.misses_faults and _counts_faults(name)]
        paired = {hook.target for hook in plan.hooks if hook.kind == "kretprobe"}
        self._entering = [
            hook.program for hook in plan.hooks if hook.kind == "kprobe" and hook.target in paired
        ]

    def map_fd(self, name: str) -> int:
        """File descriptor of a map, for maps.read_*. Raises KeyError: no such map."""
        return self._loaded.maps[name]

    def symbol(self, address: int, pid: int | None) -> tuple[str, str]:
        """(function, module's file name) of an address; pid None: the kernel's. Empty: unknown."""
        bpf = import_bcc()
        if pid is None:
            return bpf.ksym(address).decode(errors="backslashreplace"), "[kernel]"
        name: bytes = bpf.sym(address, pid, show_module=True)
        symbol, _, module = name.decode(errors="backslashreplace").rpartition(" [")
        return symbol or module, module.removesuffix("]") if symbol else ""

    def passed_over(self) -> tuple[int, int]:
        """What the kernel did not run, since loading: (programs that count a fault by themselves,
        entries of pairs). Of the second, those whose return did run were noticed there already.
        """
        return self._misses(self._counting), self._misses(self._entering)

    def _misses(self, names: Iterable[str]) -> int:
        return sum(misses(vmlinux(), self._loaded.programs[name]) for name in names)

    def cost(self) -> tuple[int, int] | None:
        """(ns, runs) of all programs since loading, while the kernel's statistics were on.

        None: this kernel does not tell.
        """
        told = [run_time(vmlinux(), fd) for fd in self._loaded.programs.values()]
        if None in told:
            return None
        return sum(each[0] for each in told if each), sum(each[1] for each in told if each)

    def close(self) -> None:
        """Detach and unload. Idempotent."""
        self._loaded.close()


def _kept(plan: ProbePlan, key: str) -> Direct | None:
    """From an earlier start; None when there is none that this kernel takes."""
    data = kept.read(key)
    if data is None:
        return None
    try:
        return Direct(plan, Compiled.from_bytes(data))
    except (OSError, LookupError, TypeError, ValueError):
        kept.forget(key)  # the compiler may do better
        return None


def _built(plan: ProbePlan, key: str, flags: list[str]) -> Direct:
    try:
        programs = compiled(bpf_text(bpf_dir()), flags)
        loaded = Direct(plan, programs)
    except (CompileError, OSError) as error:
        raise Refused(plan, str(error)) from None
    kept.write(key, programs.to_bytes())
    return loaded


def _sources() -> list[str]:
    return [path.read_text() for path in sorted(bpf_dir().rglob("*.[ch]"))]


def _bcc_version() -> str:
    """Of the BCC that would be imported; importing it takes as long as all the rest."""
    spec = find_spec("bcc")
    with suppress(OSError):
        return Path(spec.origin or "").with_name("version.py").read_text() if spec else ""
    return ""


def _counts_faults(program: str) -> bool:
    """The programs that see a fault's end by themselves."""
    return program.startswith("kretfunc__") or program.endswith(
        ("page_fault_user", "page_fault_kernel", "mm_page_alloc")
    )
