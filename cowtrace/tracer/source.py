"""The BPF program as one text. BCC rewrites map accesses in its main file only, not in headers."""

from __future__ import annotations

import re
from pathlib import Path

_INCLUDE = re.compile(r'#include "([^"]+)"\s*$')


def bpf_text(folder: Path, main: str = "cow.bpf.c") -> str:
    """`main` with each `#include "..."` of the same folder replaced by that file.

    Include guards and `#if` act as ever. `#line` keeps compiler messages pointing at the real
    files.
    """
    return "\n".join(_expand(folder, main))


def _expand(folder: Path, name: str) -> list[str]:
    lines = [f'#line 1 "{name}"']
    for number, line in enumerate((folder / name).read_text().splitlines(), 1):
        if include := _INCLUDE.match(line):
            lines += [*_expand(folder, include[1]), f'#line {number + 1} "{name}"']
        else:
            lines.append(line)
    return lines
