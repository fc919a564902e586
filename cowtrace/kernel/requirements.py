"""Check each thing that cowtrace needs: found or missing, what its lack costs, how to fix it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass

from cowtrace import sandbox
from cowtrace.errors import CowtraceError
from cowtrace.kernel.btf import VMLINUX
from cowtrace.kernel.facts import KernelFacts, kernel_facts
from cowtrace.kernel.libbpf import libbpf
from cowtrace.kernel.privileges import capabilities, in_initial_pid_namespace, lockdown, may_trace


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that cowtrace needs."""

    name: str
    found: bool
    detail: str  # what was found
    cost: str  # what its lack costs
    mend: str  # how to fix that; "" if only another kernel helps


def facts_or_none() -> KernelFacts | None:
    """None if there is no BTF, or no libbpf to read it."""
    try:
        return kernel_facts()
    except CowtraceError:
        return None


def requirements(facts: KernelFacts | None) -> tuple[Requirement, ...]:
    """All requirements, in the order in which a user should fix them."""
    return (*_privileges(), *_software(), *(_offers(facts) if facts else ()))


def _privileges() -> Iterator[Requirement]:
    held = capabilities()
    yield Requirement(
        "privileges",
        may_trace(held),
        ", ".join(sorted(held)) or "none",
        "no plan can run",
        "run as root, or grant CAP_BPF and CAP_PERFMON",
    )
    yield Requirement(
        "frame numbers",
        "CAP_SYS_ADMIN" in held,
        "readable in /proc/PID/pagemap" if "CAP_SYS_ADMIN" in held else "hidden",
        "demo and workload have no independent evidence",
        "run as root",
    )
    host = in_initial_pid_namespace()
    yield Requirement(
        "PID namespace",
        host,
        "the host's" if host else "not the host's, as in a container",
        "no plan can run: the kernel counts by host PIDs",
        "share the host's PIDs: --pid=host",
    )
    mode = lockdown()
    yield Requirement(
        "lockdown",
        mode != "confidentiality",
        mode or "not in this kernel",
        "no plan can run: BPF may not read kernel memory",
        "boot with lockdown=integrity or none",
    )
    mounts = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
    tracefs = next((at for at in mounts if os.access(f"{at}/events", os.R_OK)), None)
    yield Requirement(
        "tracefs",
        tracefs is not None,
        tracefs or "not mounted, or only root may look",
        "the kprobe plan loses faults, and counts them, while many threads sleep in a fault",
        "mount -t tracefs nodev /sys/kernel/tracing, as root",
    )


def _software() -> Iterator[Requirement]:
    bcc = importlib.util.find_spec("bcc")
    real = bcc is not None and importlib.util.find_spec("bcc.table") is not None
    yield Requirement(
        "BCC",
        real,
        "python3-bpfcc" if real else "PyPI's bcc is another program" if bcc else "no module bcc",
        "no plan can run",
        "apt install python3-bpfcc; a venv needs --system-site-packages",
    )
    try:
        libbpf()
    except CowtraceError as error:
        yield Requirement("libbpf", False, str(error), "no plan can run", error.hint)
    else:
        yield Requirement("libbpf", True, "libbpf.so.1", "no plan can run", "")
    try:
        sandbox.require()
    except CowtraceError as error:
        yield Requirement("libseccomp", False, str(error), "no command traces", error.hint)
    else:
        yield Requirement("libseccomp", True, "libseccomp.so.2", "no command traces", "")
    yield Requirement(
        "BTF",
        VMLINUX.exists(),
        str(VMLINUX) if VMLINUX.exists() else f"no {VMLINUX}",
        "no plan can run: struct offsets are unknown",
        "boot a kernel with CONFIG_DEBUG_INFO_BTF=y",
    )


def _offers(facts: KernelFacts) -> Iterator[Requirement]:
    yield Requirement(
        "trampolines",
        facts.fexit_refused is None,
        facts.fexit_refused or "an fexit program attaches to do_wp_page()",
        "no fentry plan: the kprobe plan costs more per fault",
        "",
    )
    yield Requirement(
        "kprobes",
        facts.kprobes_refused is None,
        facts.kprobes_refused or "CONFIG_KPROBES",
        "no kprobe plan",
        "",
    )
    for function, cost in (
        ("do_wp_page", "only the tracepoint plan"),
        ("finish_fault", "only the tracepoint plan"),
        ("hugetlb_wp", "copies of hugetlb pages are not seen"),
        ("wp_page_copy", "nothing: frame numbers identify a copy; wp_page_copy() only confirms it"),
    ):
        there = function in facts.symbols
        if function == "hugetlb_wp" and "hugetlb_cow" in facts.symbols:
            function, there = "hugetlb_cow", True  # its older name
        yield Requirement(
            f"{function}()",
            there,
            "a probe point" if there else "inlined: not a probe point",
            cost,
            "",
        )
    for tracepoint in ("page_fault_user", "page_fault_kernel", "mm_page_alloc"):
        there = tracepoint in facts.tracepoints
        yield Requirement(
            tracepoint,
            there,
            "a tracepoint" if there else "not in this kernel",
            "no tracepoint plan" + (", no totals of page faults" if "fault" in tracepoint else ""),
            "",
        )
