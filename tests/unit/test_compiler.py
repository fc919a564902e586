"""The BPF program as one text."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowtrace.shipped import bpf_dir
from cowtrace.tracer.compiler import bpf_text


def test_files_are_included_in_place_and_lines_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text("#ifndef A_H\nint a;\n#endif\n")
    (tmp_path / "b.h").write_text('#ifndef B_H\n#include "a.h"\nint b;\n#endif\n')
    (tmp_path / "main.c").write_text('#include "a.h"\n#include "b.h"\n#include <c.h>\nint c;\n')
    lines = bpf_text(tmp_path, {}, "main.c").splitlines()
    assert lines.count("int b;") == 1
    assert lines.count("int a;") == 1
    assert "#include <c.h>" in lines
    assert lines[lines.index("#include <c.h>") - 1] == '#line 3 "main.c"'


@pytest.mark.parametrize(
    ("condition", "defines", "times"),
    [
        ("#ifdef B", {}, 1),
        ("#ifdef B", {"B": 0}, 1),
        ("#ifndef B", {}, 1),
        ("#if B", {"B": 0}, 1),
        ("#if B", {"B": 1}, 1),
        ("#ifdef OWN", {}, 2),  # known to the preprocessor alone
        ("#if defined(B) || 1", {}, 2),
    ],
)
def test_a_file_is_inserted_once_unless_a_condition_is_unknown(
    tmp_path: Path, condition: str, defines: dict[str, int], times: int
) -> None:
    (tmp_path / "a.h").write_text("#ifndef A_H\n#define OWN\nint a;\n#endif\n")
    (tmp_path / "b.h").write_text('#ifndef B_H\n#include "a.h"\n#endif\n')
    (tmp_path / "main.c").write_text(f'{condition}\n#include "b.h"\n#endif\n#include "a.h"\n')
    assert bpf_text(tmp_path, defines, "main.c").splitlines().count("int a;") == times


@pytest.mark.parametrize("chosen", [True, False])
def test_a_file_of_another_plan_is_left_out(tmp_path: Path, chosen: bool) -> None:
    for name in ("one", "other"):
        (tmp_path / f"{name}.h").write_text(f"int {name};\n")
    text = '#ifdef ONE\n#include "one.h"\n#else\n#include "other.h"\n#endif\n'
    (tmp_path / "main.c").write_text(text)
    lines = bpf_text(tmp_path, {"ONE": 1} if chosen else {}, "main.c").splitlines()
    assert ("int one;" in lines, "int other;" in lines) == (chosen, not chosen)


def test_the_real_program_is_whole() -> None:
    plans = (
        {"PLAN_TRACEPOINT": 1, "PAGE_TABLE": 1},
        {"PLAN_FENTRY": 1, "PTE_CHANGES": 1, "NO_ACCESS": 1, "HUGE_PAGES": 1, "FORK_COPIES": 1},
        {"PLAN_KPROBE": 1},
    )
    texts = [bpf_text(bpf_dir(), plan) for plan in plans]
    for name in (path.name for path in bpf_dir().glob("*.h")):
        assert any(f'#line 1 "{name}"' in text for text in texts), f"{name} is not included"
    assert '#line 1 "tracepoint.h"' not in texts[1]
    assert all('#include "' not in text for text in texts)
