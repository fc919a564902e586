"""How long BCC takes to compile the program, alone: prints seconds. Loads nothing."""

from __future__ import annotations

import os
import time

from cowtrace.kernel.choice import preference
from cowtrace.kernel.facts import kernel_facts
from cowtrace.kernel.options import Options
from cowtrace.kernel.plan import ProbePlan, probe_plan
from cowtrace.shipped import bpf_dir
from cowtrace.tracer.compiler import bpf_text


def main() -> None:
    """The plan that `auto` takes here, with no option on."""
    facts = kernel_facts()
    plans = (probe_plan(name, facts, Options()) for name in preference(facts))
    plan = next(p for p in plans if isinstance(p, ProbePlan))
    flags = [f"-D{name}={value}".encode() for name, value in plan.defines.items()]
    os.environ["BCC_KERNEL_SOURCE"] = str(bpf_dir() / "bcc-headers")
    import ctypes

    from bcc.libbcc import lib

    text = bpf_text(bpf_dir(), plan.defines).encode()
    array = (ctypes.c_char_p * len(flags))(*flags)
    began = time.perf_counter()
    module = lib.bpf_module_create_c_from_string(text, 0, array, len(flags), True, None)
    print(time.perf_counter() - began if module else "null")


if __name__ == "__main__":
    main()
