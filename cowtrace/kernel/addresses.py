"""Choose the kernel addresses that BPF programs need: enum kernel_address of bpf/cow.h."""

from __future__ import annotations

from collections.abc import Mapping

from cowtrace.kernel.memory_layout import MemoryLayout

COPY_VARIANTS = "wp_page_copy.*"  # where the compiler made some
VARIABLES = (  # the first ones, in that order
    "huge_zero_pfn",
    "__per_cpu_offset",
)
KRETPROBE_RETURNS = (  # where a function with a kretprobe returns to
    "arch_rethook_trampoline",  # since 5.18
    "__kretprobe_trampoline",  # since 5.15
    "kretprobe_trampoline",
)
GRAPH_RETURN = "return_to_handler"  # likewise with the function-graph tracer
# What the kernel patches for a probe: its address is on the stack meanwhile (text_poke()), as the
# return of a call would be. Nothing but ftrace is called from these first bytes of a function.
_ENTRY_BYTES = 16
CODE = (COPY_VARIANTS, *KRETPROBE_RETURNS, GRAPH_RETURN)


def addresses(symbols: Mapping[str, int], layout: MemoryLayout) -> tuple[int, ...]:
    """In the order of that enum, from the addresses by name; 0: unknown, or there is none."""
    code = ("wp_page_copy", COPY_VARIANTS, "do_wp_page"), KRETPROBE_RETURNS, (GRAPH_RETURN,)
    copy, *returns = (next(filter(None, map(symbols.get, names)), 0) for names in code)
    copy += _ENTRY_BYTES if copy else 0
    return (*(symbols.get(variable, 0) for variable in VARIABLES), *layout, copy, *returns)
