"""The BPF program as one text."""

from __future__ import annotations

from pathlib import Path

from cowtrace.shipped import bpf_dir
from cowtrace.tracer.compiler import bpf_text


def test_files_are_included_in_place_and_lines_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text("#ifndef A_H\nint a;\n#endif\n")
    (tmp_path / "b.h").write_text('#ifndef B_H\n#include "a.h"\nint b;\n#endif\n')
    (tmp_path / "main.c").write_text('#include "a.h"\n#include "b.h"\n#include <c.h>\nint c;\n')
    lines = bpf_text(tmp_path, "main.c").splitlines()
    assert lines.count("int b;") == 1
    assert lines.count("int a;") == 1
    assert "#include <c.h>" in lines
    assert lines[lines.index("#include <c.h>") - 1] == '#line 3 "main.c"'


def test_a_file_within_a_condition_may_be_needed_again(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text("#ifndef A_H\nint a;\n#endif\n")
    (tmp_path / "b.h").write_text('#ifndef B_H\n#include "a.h"\n#endif\n')
    (tmp_path / "main.c").write_text('#ifdef B\n#include "b.h"\n#endif\n#include "a.h"\n')
    assert bpf_text(tmp_path, "main.c").splitlines().count("int a;") == 2


def test_the_real_program_is_whole() -> None:
    text = bpf_text(bpf_dir())
    headers = {p.name for p in bpf_dir().glob("*.h")}
    assert all(f'#line 1 "{name}"' in text for name in headers), "a header is not included"
    assert '#include "' not in text
