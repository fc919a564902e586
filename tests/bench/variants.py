"""What is attached while the load runs: nothing, empty programs, cowtrace's plans, bpftrace's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import writer
from cowtrace import tracer
from cowtrace.errors import CowtraceError
from cowtrace.shipped import bpf_dir
from cowtrace.workloads.region import REGION_END, REGION_START

_TESTS = Path(__file__).resolve().parents[1]

FENTRY_COUNT = "fentry:do_wp_page { @[pid] = count(); }"
KPROBE_COUNT = "kprobe:do_wp_page { @[pid] = count(); }"
KPROBE_PAIR = (
    "kprobe:do_wp_page { @at[tid] = arg0; }"
    " kretprobe:do_wp_page /@at[tid]/ { @[pid] = count(); delete(@at[tid]); }"
)
TRACEPOINT_COUNT = "tracepoint:exceptions:page_fault_user { @[pid] = count(); }"
# An attempt: a fault that re-marked its page leaves @wp set, so that the next page that the
# thread allocates, for any reason, counts as copied.
TRACEPOINT_PAIR = (
    "tracepoint:exceptions:page_fault_user /(args->error_code & 3) == 3/"
    " { @wp[tid] = 1; @faults[pid] = count(); }"
    " tracepoint:kmem:mm_page_alloc /@wp[tid]/"
    " { @copied[pid] = count(); delete(@wp[tid]); }"
)


class Missing(Exception):
    """This variant cannot be had here; says why, in a few words."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of a table: runs a command while something is attached."""

    name: str
    what: str  # how to have the same attached by hand
    run: Callable[[Sequence[str], Mapping[str, str]], None] = field(repr=False)

    def measure(self, pages: int, repetitions: int) -> writer.Load:
        """Run the load. Raises Missing."""
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch, "load.json")
            command = [sys.executable, "-m", "bench.writer", str(pages), str(repetitions)]
            self.run([*command, str(out)], environment())
            if not out.exists():
                raise Missing("the load did not run")
            return writer.read(out)


def environment() -> dict[str, str]:
    """For an interpreter that imports this package and cowtrace."""
    return {**os.environ, "PYTHONPATH": f"{_TESTS}:{_TESTS.parent}"}


def beside(name: str, what: str, attached: Callable[[], AbstractContextManager[object]]) -> Variant:
    """Attached by this process, beside the load."""

    def run(command: Sequence[str], env: Mapping[str, str]) -> None:
        try:
            with attached():
                subprocess.run(command, env=env, check=True)
        except CowtraceError as error:
            raise Missing(str(error)) from error

    return Variant(name, what, run)


def baseline() -> Variant:
    """Nothing attached."""
    return beside("nothing attached", "-", nullcontext)


def cowtrace(plan: str, **options: Any) -> Variant:
    """A plan as `cowtrace.tracer.attach` attaches it."""
    words = [f"{name}=({value[0]:#x}, {value[1]:#x})" if isinstance(value, tuple)
             else f"{name}={value}" for name, value in options.items()]  # fmt: skip
    what = f"cowtrace.tracer.attach({', '.join([repr(plan), *words])})"
    asked = [
        word.replace("_", "-")
        for option, value in options.items()
        for word in (sorted(value) if option == "details" else [option])
    ]
    name = " + ".join([f"cowtrace {plan}", *asked])
    return beside(name, what, lambda: tracer.attach(plan, **options))


def with_thread(variant: Variant) -> Variant:
    """The same, where each process that writes has a second thread, which sleeps."""
    return Variant(
        f"{variant.name}, thread",
        f"{variant.what}; a second thread of the load sleeps",
        lambda command, env: variant.run([*command, "thread"], env),
    )


def empty(name: str, text: str, *kprobes: str) -> Variant:
    """Programs of this text, through BCC: what a probe costs before it does anything.

    `kprobes` are attached to do_wp_page(): functions of BPF that do so. BCC attaches the others.
    """

    @contextmanager
    def attached() -> Iterator[None]:
        os.environ["BCC_KERNEL_SOURCE"] = str(bpf_dir() / "bcc-headers")
        try:
            from bcc import BPF

            programs = BPF(text=text)
        except Exception as error:  # BCC raises bare Exception for every failure
            raise Missing(f"BCC: {str(error).splitlines()[0]}") from error
        try:
            for attach in kprobes:
                getattr(programs, attach)(event="do_wp_page", fn_name="nothing")
            yield
        finally:
            programs.cleanup()

    return beside(name, text, attached)


def bpftrace(name: str, script: str) -> Variant:
    """bpftrace starts the load when its probes are attached."""

    def run(command: Sequence[str], env: Mapping[str, str]) -> None:
        program = shutil.which("bpftrace")
        if not program:
            raise Missing("bpftrace is not installed: apt install bpftrace")
        ended = subprocess.run(
            [program, "-e", script, "-c", " ".join(command)],
            env=env, capture_output=True, text=True,
        )  # fmt: skip
        if ended.returncode:
            said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
            raise Missing(f"bpftrace: {said[-1]}")

    return Variant(f"bpftrace {name}", f"bpftrace -e '{script}'", run)


_FENTRY = "KFUNC_PROBE(do_wp_page) { return 0; }"
_FEXIT = "KRETFUNC_PROBE(do_wp_page) { return 0; }"
_NOTHING = "int nothing(struct pt_regs *ctx) { return 0; }"

REGION = (REGION_START, REGION_END)
# Each option of `attach`, with the plans that have it.
OPTIONS: tuple[tuple[tuple[str, ...], Mapping[str, Any]], ...] = (
    (("fentry", "kprobe", "tracepoint"), {"region": REGION}),
    (("fentry", "kprobe", "tracepoint"), {"page_faults": True}),
    (("fentry", "kprobe"), {"outcomes": True}),
    (("fentry", "kprobe"), {"fork_copies": True}),
    (("kprobe",), {"cross_check": True}),
    (("fentry", "kprobe", "tracepoint"), {"details": frozenset({"generation"})}),
    (("fentry", "kprobe", "tracepoint"), {"details": frozenset({"mapping"})}),
    (("fentry", "kprobe"), {"details": frozenset({"latency"})}),
    (("fentry", "kprobe", "tracepoint"), {"details": frozenset({"stack"})}),
    (("fentry", "kprobe", "tracepoint"), {"samples": True}),
    (("fentry", "kprobe", "tracepoint"), {"objects": True}),
    (("fentry", "kprobe", "tracepoint"), {"events": True}),
)


def everything() -> list[Variant]:
    """All that a kernel with kprobes and trampolines can have attached."""
    plans = ("fentry", "kprobe", "tracepoint")
    return [
        baseline(),
        empty("empty fentry", _FENTRY),
        empty("empty fexit", _FEXIT),
        empty("empty fentry + fexit", _FENTRY + _FEXIT),
        empty("empty kprobe + kretprobe", _NOTHING, "attach_kretprobe", "attach_kprobe"),
        *(cowtrace(plan) for plan in plans),
        *(with_thread(cowtrace(plan)) for plan in ("fentry", "kprobe")),
        *(cowtrace(plan, **options) for having, options in OPTIONS for plan in having),
        bpftrace("fentry count", FENTRY_COUNT),
        bpftrace("kprobe count", KPROBE_COUNT),
        bpftrace("kprobe pair", KPROBE_PAIR),
        bpftrace("tracepoint count", TRACEPOINT_COUNT),
        bpftrace("tracepoint pair", TRACEPOINT_PAIR),
    ]
