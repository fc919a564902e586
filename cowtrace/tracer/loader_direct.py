"""Load compiled programs and attach them with libbpf alone, in milliseconds."""

from __future__ import annotations

import os

from cowtrace.kernel import programs
from cowtrace.kernel.btf import vmlinux
from cowtrace.kernel.plan import ProbePlan
from cowtrace.tracer.compiled import Compiled, with_maps
from cowtrace.tracer.kprobes import Kprobes

_TRACING = {"kfunc": programs.FENTRY, "kretfunc": programs.FEXIT}  # as BCC names them


class Direct:
    """Programs attached, maps open. Raises OSError, and leaves nothing, when one is refused."""

    def __init__(self, plan: ProbePlan, compiled: Compiled) -> None:
        self.maps: dict[str, int] = {}
        self.programs: dict[str, int] = {}
        self._links: list[int] = []
        self._kprobes = Kprobes()
        try:
            for spec in compiled.maps:
                self.maps[spec.name] = programs.create_map(spec)
            fds = list(self.maps.values())
            for name, code in compiled.programs:
                self._load(name, with_maps(code, fds.__getitem__))
            for hook in plan.hooks:
                self._kprobes.attach(hook, self.programs[hook.program])
        except BaseException:
            self.close()
            raise

    def _load(self, name: str, code: bytes) -> None:
        kind, _, target = name.partition("__")
        if kind == "raw_tracepoint":
            self.programs[name] = fd = programs.load_program(programs.RAW_TRACEPOINT, target, code)
            self._links.append(programs.open_raw_tracepoint(target, fd))
        elif kind in _TRACING:
            target = target.removeprefix("vmlinux__")  # newer BCC names the module as well
            btf_id = vmlinux().function_id(target)
            if btf_id is None:
                raise OSError(f"no function {target}()")
            self.programs[name] = fd = programs.load_program(
                programs.TRACING, target, code, _TRACING[kind], btf_id
            )
            self._links.append(programs.open_raw_tracepoint(None, fd))
        else:
            self.programs[name] = programs.load_program(programs.KPROBE, name, code)

    def close(self) -> None:
        """Detach in the reverse order and unload. Idempotent."""
        self._kprobes.close()
        for fds in (self._links, list(self.programs.values()), list(self.maps.values())):
            for fd in reversed(fds):
                os.close(fd)
        self._links = []
        self.programs, self.maps = {}, {}
