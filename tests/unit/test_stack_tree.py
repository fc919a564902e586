"""analysis/stacks.py and what is made of it: a list, folded stacks, speedscope."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.cells import cell_len
from snapshots import PAGE, calls, detail, process, row, snapshot, text

from cowtrace.analysis.stacks import Call, functions, leaves, readable, stack_tree
from cowtrace.machine.stacks import write_folded, write_speedscope
from cowtrace.model import DetailRow, FaultKind, StackFrame
from cowtrace.terminal.stacks import view

NOW = snapshot(process(1, "python3", row(FaultKind.COPIED, 41)), process(2, "redis"))
COLLECT = calls("gc_collect", "gc_main", "main")
ROWS = (
    detail(1, faults=23, user_stack=COLLECT),
    detail(1, faults=11, user_stack=calls("gc_collect", "gc_main", "main")),
    detail(1, faults=5, user_stack=calls("gc_main", "gc_main", "main")),  # recursion
    detail(2, faults=2, user_stack=None),
    detail(2, FaultKind.REUSED, 509, user_stack=COLLECT),  # no copy
)
EVIL = "</script><script>alert(1)</script>;\n\x1b[31m<b>${x}%{y}"


def test_equal_stacks_add_up() -> None:
    root = stack_tree(NOW, ROWS)
    assert (root.total_bytes, root.faults) == (41 * PAGE, 41)
    assert {c.name: node.total_bytes // PAGE for c, node in root.children.items()} == {
        "python3": 39,
        "redis": 2,
    }
    found = {tuple(call.name for call in path): copied // PAGE for path, copied in leaves(root)}
    assert found == {
        ("python3", "main", "gc_main", "gc_collect"): 34,
        ("python3", "main", "gc_main", "gc_main"): 5,
        ("redis", "[no stack]"): 2,
    }


def test_recursion_counts_once() -> None:
    found = {f.call.name: (f.self_bytes // PAGE, f.total_bytes // PAGE, f.faults) for f in
             functions(stack_tree(NOW, ROWS))}  # fmt: skip
    assert found == {
        "gc_collect": (34, 34, 34),
        "gc_main": (5, 39, 39),
        "main": (0, 39, 39),
        "[no stack]": (2, 2, 2),
    }
    through = detail(1, faults=7, user_stack=calls("a", "b", "a"))  # a calls b, which calls a
    beside = detail(1, faults=3, user_stack=calls("a", "c"))
    told = {
        f.call.name: f.total_bytes // PAGE for f in functions(stack_tree(NOW, (through, beside)))
    }
    assert told == {"a": 10, "b": 7, "c": 3}


def test_a_list() -> None:
    assert (
        text(view(NOW, stack_tree(NOW, ROWS), 3, sampled=True))
        == """\
   SELF         TOTAL       FUNCTION                       IN
 136KiB 82.9%  136KiB 82.9% gc_collect                     /usr/bin/python3.13
20.0KiB 12.2%  156KiB 95.1% gc_main                        /usr/bin/python3.13
8.00KiB  4.9% 8.00KiB  4.9% [no stack]
plan kprobe, kernel 6.12.43+deb13-cloud-amd64, 1.0 s: 3 of 4 functions
unclassified 0, lost 0
164 KiB in 41 copies, estimated from samples
"""
    )


@pytest.mark.parametrize(
    ("symbol", "module", "expected"),
    [
        ("py::collect:/srv/app.py", "", Call("collect", "/srv/app.py")),
        ("py::<module>:<string>", "/tmp/perf-1.map", Call("<module>", "<string>")),
        ("py::odd", "/tmp/perf-1.map", Call("odd", "/tmp/perf-1.map")),
        ("std::set<int>::at(int&&)", "libx.so", Call("std::set<int>::at(int&&)", "libx.so")),
        ("a\x1b\nb", "c\u202e", Call("a\\x1b\\x0ab", "c\\u202e")),
    ],
)  # fmt: skip
def test_readable(symbol: str, module: str, expected: Call) -> None:
    assert readable(StackFrame(symbol, module, 1)) == expected


def test_kernel_frames_come_last_without_those_of_the_tracer() -> None:
    kernel = calls(
        "bpf_prog_7fe_on_fault", "bpf_trace_run4", "__traceiter_mm_page_alloc", "do_wp_page",
        "exc_page_fault", module="[kernel]",
    )  # fmt: skip
    root = stack_tree(NOW, [detail(1, user_stack=calls("f", "main"), kernel_stack=kernel)])
    ((path, _),) = leaves(root)
    assert [call.label for call in path] == [
        "python3", "main (python3.13)", "f (python3.13)", "exc_page_fault_[k]", "do_wp_page_[k]",
    ]  # fmt: skip


def folded_text(*rows: DetailRow) -> str:
    stream = io.StringIO()
    write_folded(stream, stack_tree(NOW, rows))
    return stream.getvalue()


def test_folded() -> None:
    assert folded_text(*ROWS) == (
        "python3;main (python3.13);gc_main (python3.13);gc_collect (python3.13) 139264\n"
        "python3;main (python3.13);gc_main (python3.13);gc_main (python3.13) 20480\n"
        "redis;[no stack] 8192\n"
    )


def test_a_hostile_name_is_one_frame_of_one_line() -> None:
    (line,) = folded_text(detail(1, user_stack=calls(EVIL, "main"))).splitlines()
    stack, _, weight = line.rpartition(" ")
    assert weight == str(23 * PAGE)
    assert len(stack.split(";")) == 3
    assert "\x1b" not in line


# https://www.speedscope.app/file-format-schema.json: the required fields of what is written here,
# with their types. `file` is optional; no other fields may be in a frame but line and col.
PROFILE = {
    "type": str, "name": str, "unit": str, "startValue": int, "endValue": int, "samples": list,
    "weights": list,
}  # fmt: skip


@pytest.mark.parametrize("rows", [ROWS, (), (detail(1, user_stack=calls(EVIL)),)])
def test_speedscope(rows: tuple[DetailRow, ...]) -> None:
    stream = io.StringIO()
    write_speedscope(stream, stack_tree(NOW, rows), "title")
    told = json.loads(stream.getvalue())
    assert told["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert told["exporter"].startswith("cowtrace@")
    frames = told["shared"]["frames"]
    assert all({"name"} <= frame.keys() <= {"name", "file"} for frame in frames)
    assert all(isinstance(value, str) for frame in frames for value in frame.values())
    for profile in told["profiles"]:
        assert {key: type(value) for key, value in profile.items()} == PROFILE
        assert (profile["type"], profile["unit"]) == ("sampled", "bytes")
        assert len(profile["samples"]) == len(profile["weights"])
        assert profile["endValue"] == sum(profile["weights"])
        assert all(0 <= at < len(frames) for sample in profile["samples"] for at in sample)
    assert sum(p["endValue"] for p in told["profiles"]) == PAGE * sum(
        r.faults for r in rows if r.kind is FaultKind.COPIED
    )
    index = told.get("activeProfileIndex", 0)
    assert not told["profiles"] or 0 <= index < len(told["profiles"])


def test_a_hostile_name_stays_in_its_cell() -> None:
    rows = (detail(1, user_stack=calls(EVIL + "日本語" * 20, module=EVIL)),)
    shown = text(view(NOW, stack_tree(NOW, rows), 20, sampled=False))
    assert all(cell_len(line) <= 80 for line in shown.splitlines())
    assert "\x1b" not in shown


def test_a_process_that_is_gone_is_still_a_branch() -> None:
    root = stack_tree(replace(NOW, processes=()), ROWS)
    assert [call.name for call in root.children] == ["?"]
