"""Does this kernel take an fexit program? Tried with an empty one: a millisecond, not a compile.

BCC's `support_kfunc()` looks at symbols and says yes where loading is refused.
"""

from __future__ import annotations

import errno
import os
from contextlib import closing

from cowtrace.kernel.btf import Btf
from cowtrace.kernel.programs import FEXIT, TRACING, instruction, open_raw_tracepoint, try_program

_RETURN_0 = instruction(0xB7) + instruction(0x95)  # r0 = 0; exit


def fexit_refused(btf: Btf, function: str) -> str | None:
    """Why an empty fexit program cannot be attached to `function`; None when it can."""
    type_id = btf.function_id(function)
    if type_id is None:
        return f"BTF has no function {function}()"
    step = "loading"
    try:
        program = try_program(TRACING, _RETURN_0, FEXIT, type_id)
        with closing(os.fdopen(program)):
            step = "attaching"
            os.close(open_raw_tracepoint(None, program))
    except OSError as error:
        number = error.errno or 0
        return f"{step} an fexit program: {error.strerror} ({errno.errorcode.get(number, number)})"
    return None
