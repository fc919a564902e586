"""The BPF program as one text, and sums over CPUs."""

from __future__ import annotations

import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cowtrace.bpf_source import bpf_dir
from cowtrace.tracer.maps import sum_cpus
from cowtrace.tracer.source import bpf_text

U64 = st.integers(0, (1 << 64) - 1)


def test_files_are_included_in_place_and_lines_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text("int a;\n")
    (tmp_path / "b.h").write_text('#include "a.h"\nint b;\n')
    (tmp_path / "main.c").write_text('#include "a.h"\n#include "b.h"\n#include <c.h>\nint c;\n')
    lines = bpf_text(tmp_path, "main.c").splitlines()
    assert lines.count("int b;") == 1
    assert lines.count("int a;") == 2  # its guard is the preprocessor's business, and any #if
    assert "#include <c.h>" in lines
    assert lines[lines.index("#include <c.h>") - 1] == '#line 3 "main.c"'


def test_the_real_program_is_whole() -> None:
    text = bpf_text(bpf_dir())
    headers = {p.name for p in bpf_dir().glob("*.h")}
    assert all(f'#line 1 "{name}"' in text for name in headers), "a header is not included"
    assert '#include "' not in text


@given(st.lists(st.tuples(U64, U64), min_size=1, max_size=8))
def test_sums_over_cpus_wrap(rows: list[tuple[int, int]]) -> None:
    raw = b"".join(struct.pack("<QQ", *row) for row in rows)
    assert sum_cpus(raw, struct.Struct("<QQ")) == tuple(
        sum(column) % (1 << 64) for column in zip(*rows, strict=True)
    )


def test_values_of_a_cpu_are_padded_to_8_bytes() -> None:
    raw = struct.pack("<IxxxxIxxxx", 2, 3)
    assert sum_cpus(raw, struct.Struct("<I")) == (5,)
