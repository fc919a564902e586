"""Keep the checks of kernels in a file, and read one that anybody may have written.

JSON; its schema: `cowtrace export schema verify-matrix`. What differs from run to run (times, what
oracles count of whole threads) is not in it, so that a version control system shows changes alone.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cowtrace import __version__
from cowtrace.errors import CowtraceError
from cowtrace.text import printable
from cowtrace.verify.check import Check, Count, Verdict
from cowtrace.verify.differences import compared_evidence
from cowtrace.verify.json_values import (
    flag,
    items,
    mapping,
    no_number,
    number,
    or_none,
    signed,
    text,
)
from cowtrace.verify.matrix import KernelChecks
from cowtrace.workloads.outcome import Evidence

FORMAT, VERSION = "cowtrace verify matrix", 1
_MOST_BYTES = 8 << 20  # of a file: some 5,000 checks
_KEPT = ("group", "name", "claim", "kernel", "plan", "blind", "why", "pages", "findings")


def text_of(kernels: Iterable[KernelChecks]) -> str:
    """The file."""
    matrix = {
        "format": FORMAT,
        "version": VERSION,
        "cowtrace": __version__,
        "kernels": [
            {
                "name": one.kernel,
                "versions": list(one.versions),
                "checks": [_fields(check) for check in one.checks],
            }
            for one in kernels
        ],
    }
    return json.dumps(matrix, indent=1) + "\n"


def read(name: str) -> tuple[KernelChecks, ...] | None:
    """The matrix in a file; None if there is no file.

    Raises CowtraceError: it cannot be read, is larger than cowtrace reads, or is no such matrix.
    """
    shown = printable(name)
    try:
        data = _bytes(name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CowtraceError(
            f"cannot read {shown}: {error.strerror}", hint="name a file that you may read"
        ) from None
    except ValueError as error:
        raise _wrong(shown, str(error)) from None
    try:
        return parse(data)
    except KeyError as error:
        raise _wrong(shown, f"a field is missing: {printable(str(error))[:60]}") from None
    except RecursionError:
        raise _wrong(shown, "it is nested too deep") from None
    except (TypeError, ValueError) as error:
        raise _wrong(shown, printable(str(error))[:100]) from None


def parse(data: bytes) -> tuple[KernelChecks, ...]:
    """The matrix. Raises KeyError, TypeError, ValueError or RecursionError on anything else."""
    whole = mapping(json.loads(data, parse_constant=no_number))
    if whole.get("format") != FORMAT:
        raise ValueError(f"its field format is not {FORMAT}")
    version = number(whole["version"])
    if version != VERSION:
        raise ValueError(f"it has version {version}, this cowtrace reads {VERSION}")
    kernels = items(whole["kernels"], _kernel)
    if len({one.kernel for one in kernels}) < len(kernels):
        raise ValueError("it has a kernel twice")
    return kernels


def _bytes(name: str) -> bytes:
    handle = os.open(name, os.O_PATH | os.O_CLOEXEC)  # a device or a FIFO is not opened at all
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is not a regular file")
        with Path(f"/proc/self/fd/{handle}").open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES >> 20} MiB")
    return data


def _wrong(shown: str, detail: str) -> CowtraceError:
    return CowtraceError(
        f"{shown} is not a matrix of cowtrace verify: {detail}",
        hint="name another file; a missing one is created: cowtrace verify --baseline FILE",
    )


def _fields(check: Check) -> dict[str, Any]:
    whole = check.as_dict()
    return {
        **{name: whole[name] for name in _KEPT},
        "verdict": whole["verdict"],
        "counts": whole["counts"],
        "evidence": [
            {"oracle": one.oracle, "what": one.what, "observed": one.observed}
            for one in compared_evidence(check)
        ],
    }


def _kernel(value: object) -> KernelChecks:
    fields = mapping(value)
    return KernelChecks(
        text(fields["name"]),
        items(fields["checks"], _check),
        items(fields["versions"], text),
    )


def _check(value: object) -> Check:
    fields = mapping(value)
    return Check(
        **{name: text(fields[name]) for name in ("group", "name", "claim", "kernel", "plan")},
        did="",
        verdict=Verdict(fields["verdict"]),
        blind=flag(fields["blind"]),
        why=text(fields["why"]),
        pages=or_none(fields["pages"], number),
        counts=items(fields["counts"], _count),
        evidence=items(fields["evidence"], _evidence),
        findings=items(fields["findings"], text),
        seconds=0,
    )


def _count(value: object) -> Count:
    fields = mapping(value)
    numbers = ("expected", "traced", "pagemap")
    return Count(
        role=text(fields["role"]),
        kind=text(fields["kind"]),
        **{name: or_none(fields[name], number) for name in numbers},
        upper_bound=flag(fields["upper_bound"]),
        sources=items(fields["sources"], text),
        origins=items(fields["origins"], text),
    )


def _evidence(value: object) -> Evidence:
    fields = mapping(value)
    observed: object = fields["observed"]
    seen = observed if isinstance(observed, str) else or_none(observed, signed)
    return Evidence(text(fields["oracle"]), text(fields["what"]), None, seen, True)
