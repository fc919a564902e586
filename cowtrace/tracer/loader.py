"""Load and attach the BPF programs of a ProbePlan, compiled now or at an earlier start."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

from cowtrace import cache
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel import programs
from cowtrace.kernel.btf import vmlinux
from cowtrace.kernel.facts import TRAMPOLINE_PAIRS
from cowtrace.kernel.plan import ProbePlan
from cowtrace.kernel.statistics import run_time, skipped_runs
from cowtrace.shipped import bpf_dir
from cowtrace.tracer import bpf_maps
from cowtrace.tracer.bytecode import Bytecode, with_maps, with_numbers
from cowtrace.tracer.compiler import CompileError, bpf_text, compile_source, flags_of, headers
from cowtrace.tracer.kprobes import Kprobes

# How much each map has room for: elements, in a ring buffer bytes. Those for details are made only
# when they are requested. What finds no room is counted as lost.
MAP_SIZES = {
    "fault_sums": 1 << 17,  # process x kind x source x origin
    "processes": 1 << 15,
    "page_faults": 1 << 16,  # processes, in each of two rounds
    "wanted": 1 << 15,  # living processes that a filter follows
    "runtimes": 1 << 15,  # living processes that run CPython
    "generations": 1 << 15,
    "details": 1 << 16,
    "mappings": 1 << 15,
    "stacks": 1 << 14,
    "events": 4 << 20,
    "samples": 16 << 20,
}
SINGLE_MAPS = ("rounds", "places", "fork_changes")  # enum single_map of bpf/cow.h
_NO_CODE = re.compile(r"/\*.*?\*/|^#line [^\n]*$", re.DOTALL | re.MULTILINE)
_TRACING = {"kfunc": programs.FENTRY, "kretfunc": programs.FEXIT}  # as BCC names them


class Refused(CowtraceError):
    """A plan cannot run here: this kernel lacks or refuses something, or BCC cannot compile it."""

    def __init__(self, message: str) -> None:
        hint = "see what this kernel offers: cowtrace doctor"
        super().__init__(message, hint=hint, exit_code=EXIT_NO_PLAN)


def load(plan: ProbePlan) -> Loaded:
    """Compile the plan's programs, if no earlier start did, and attach them. Raises Refused."""
    flags = flags_of(plan.defines)
    text = bpf_text(bpf_dir(), plan.defines)
    code = _NO_CODE.sub("", text)
    key = cache.key(code, *headers(), repr(plan.hooks), _bcc_version(), *flags)
    if loaded := _from_cache(plan, key):
        return loaded
    try:
        bytecode = compile_source(text, flags)
        loaded = Loaded(plan, bytecode)
    except (CompileError, OSError) as error:
        raise Refused(f"this kernel refused the {plan.name} plan: {error}") from None
    cache.write(key, bytecode.to_bytes())
    return loaded


def _from_cache(plan: ProbePlan, key: str) -> Loaded | None:
    """None when no earlier start compiled it, or this kernel refuses the result."""
    data = cache.read(key)
    if data is None:
        return None
    try:
        return Loaded(plan, Bytecode.from_bytes(data))
    except (OSError, LookupError, TypeError, ValueError):
        cache.forget(key)  # the compiler may do better
        return None


class Loaded:
    """Attached programs and open maps. `close` detaches; so does the end of the process.

    libbpf alone loads them, in milliseconds. Raises OSError, and leaves nothing attached, when the
    kernel refuses one.
    """

    def __init__(self, plan: ProbePlan, bytecode: Bytecode) -> None:
        self.maps: dict[str, int] = {}  # file descriptors, for bpf_maps
        self.programs: dict[str, int] = {}
        self._plan = plan
        self._links: list[int] = []
        self._kprobes = Kprobes()
        codes: dict[str, bytes] = {}
        try:
            for spec in bytecode.maps:
                size = MAP_SIZES.get(spec.name, spec.max_entries)
                self.maps[spec.name] = programs.create_map(replace(spec, max_entries=size))
            if "stack_secret" in self.maps:  # see bpf/stack.h
                bpf_maps.write_element(self.maps["stack_secret"], 0, os.urandom(24))
            fds = list(self.maps.values())
            for name, code in bytecode.programs:
                code = with_maps(code, fds.__getitem__)
                codes[name] = with_numbers(code, plan.addresses, self._single_map)
            self._load(codes)
            for name, fd in self.programs.items():
                self._attach(name, fd)
            for hook in plan.hooks:
                self._kprobes.attach(hook, self.programs[hook.program])
        except BaseException:
            self.close()
            raise

    def skipped_runs(self) -> tuple[int, int]:
        """Runs that the kernel skipped since loading: of programs that count a fault alone, and of
        the entry programs of pairs. The return program counts a skipped entry as "entry missed".
        """
        hooks = self._plan.hooks
        paired = {hook.target for hook in hooks if hook.kind == "kretprobe"}
        entries = [h.program for h in hooks if h.kind == "kprobe" and h.target in paired]
        entries += [
            n for n in self.programs if n.startswith("kfunc__") and n.endswith(TRAMPOLINE_PAIRS)
        ]
        alone = [n for n in self.programs if self._plan.misses_faults and _counts_alone(n)]
        return self._misses(alone), self._misses(entries)

    def _misses(self, names: list[str]) -> int:
        return sum(skipped_runs(vmlinux(), self.programs[name]) for name in names)

    def cost(self) -> tuple[int, int] | None:
        """(ns, runs) of all programs since loading, while the kernel's statistics were on.

        None: this kernel does not count them.
        """
        costs = [run_time(vmlinux(), fd) for fd in self.programs.values()]
        if None in costs:
            return None
        return sum(each[0] for each in costs if each), sum(each[1] for each in costs if each)

    def close(self) -> None:
        """Detach and unload. Idempotent."""
        self._kprobes.close()
        for fds in (self._links, list(self.programs.values()), list(self.maps.values())):
            for fd in reversed(fds):
                os.close(fd)
        self._links = []
        self.programs, self.maps = {}, {}

    def _single_map(self, number: int) -> int:
        return self.maps[SINGLE_MAPS[number]]

    def _load(self, codes: dict[str, bytes]) -> None:
        """All at once: the verifier takes longest of a start, and the kernel runs several."""
        found: dict[str, int | Exception] = {}

        def load(name: str, code: bytes) -> None:
            try:
                found[name] = _load_program(name, code)
            except Exception as error:  # raised below
                found[name] = error

        threads = []
        try:
            for name, code in codes.items():
                thread = Thread(target=load, args=(name, code))
                try:
                    thread.start()
                except RuntimeError:  # no thread more can be started
                    load(name, code)
                else:
                    threads.append(thread)
        finally:
            for thread in threads:
                thread.join()
            # In the order of the code, not of the threads: they are attached in it.
            fds = ((name, found.get(name)) for name in codes)
            self.programs = {name: fd for name, fd in fds if isinstance(fd, int)}
        for name in codes:
            if isinstance(refused := found[name], Exception):
                raise refused

    def _attach(self, name: str, fd: int) -> None:
        """Kprobes are attached by their hooks."""
        kind, _, target = name.partition("__")
        if kind == "raw_tracepoint":
            self._links.append(programs.open_raw_tracepoint(target, fd))
        elif kind in _TRACING:
            self._links.append(programs.open_raw_tracepoint(None, fd))


def _load_program(name: str, code: bytes) -> int:
    kind, _, target = name.partition("__")
    if kind == "raw_tracepoint":
        return programs.load_program(programs.RAW_TRACEPOINT, target, code)
    if kind not in _TRACING:
        return programs.load_program(programs.KPROBE, name, code)
    target = target.removeprefix("vmlinux__")  # newer BCC names the module as well
    btf_id = vmlinux().function_id(target)
    if btf_id is None:
        raise OSError(f"no function {target}()")
    return programs.load_program(programs.TRACING, target, code, _TRACING[kind], btf_id)


def _bcc_version() -> str:
    """Of the BCC that would be imported; importing it takes as long as all the rest."""
    spec = find_spec("bcc")
    with suppress(OSError):
        return Path(spec.origin or "").with_name("version.py").read_text() if spec else ""
    return ""


def _counts_alone(program: str) -> bool:
    """Whether a program sees a fault's end by itself."""
    return program.startswith("kretfunc__") or program.endswith(
        (
            *("page_fault_user", "page_fault_kernel", "mm_page_alloc"),
            *("flush_tlb_mm_range", "ptep_set_access_flags"),  # bpf/pte_change.h
            *("ptep_clear_flush_enter", "ptep_set_access_flags_enter"),
            "add_new_anon_rmap_enter",  # bpf/fork.h; also called outside of fork: an upper bound
        )
    )
