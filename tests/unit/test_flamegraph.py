"""html/flame_data.py and html/flamegraph.py: the calls that are drawn, their data, the page."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from snapshots import PAGE, calls, detail, process, snapshot

from cowtrace.analysis.stacks import stack_tree
from cowtrace.html import flame_data as of
from cowtrace.html import flamegraph
from cowtrace.html.flame_data import FlameData, Frame, as_json, flame_data
from cowtrace.html.parts import POLICY
from cowtrace.model import DetailRow

NOW = snapshot(process(1, "python3"), process(2, "redis"))
ROWS = (
    detail(1, faults=23, user_stack=calls("gc_collect", "main", module="/srv/app.py")),
    detail(1, faults=11, user_stack=calls("main", module="/srv/app.py")),
    detail(2, faults=7, kernel_stack=calls("do_wp_page", module="[kernel]")),
)
EVIL = "</script><script>alert(1)</script><!--;\n\x1b[31m<b>&lt;\u2028\u2029${x}"


def data(*rows: DetailRow) -> FlameData:
    return flame_data(stack_tree(NOW, rows))


def path(found: FlameData, frame: Frame) -> str:
    """`all/python3/main`."""
    above = path(found, found.frames[frame.caller]) + "/" if frame.caller >= 0 else ""
    return above + frame.name


def test_each_call_has_its_bytes_its_own_and_its_copies() -> None:
    found = data(*ROWS)
    shown = {
        path(found, f): (f.total_bytes // PAGE, f.self_bytes // PAGE, f.copies)
        for f in found.frames
    }
    assert shown == {
        "all": (41, 0, 41),
        "all/python3": (34, 0, 34),
        "all/python3/main": (34, 11, 34),
        "all/python3/main/gc_collect": (23, 23, 23),
        "all/redis": (7, 0, 7),
        "all/redis/do_wp_page": (7, 7, 7),
    }
    assert all(frame.caller < at for at, frame in enumerate(found.frames))
    assert (found.levels, found.cut_calls, found.cut_bytes) == (4, 0, 0)


def test_colours_tell_the_kernel_python_and_modules() -> None:
    rows = (*ROWS, detail(2, faults=5, user_stack=calls("a", "b")))
    colours = {frame.name: frame.colour for frame in data(*rows).frames}
    assert colours["gc_collect"] == colours["main"]
    assert colours["a"] == colours["b"]
    assert colours["python3"] == colours["redis"]
    assert len({colours[n] for n in ("all", "redis", "main", "do_wp_page", "a")}) == 5


def test_narrow_calls_of_a_caller_are_one_frame() -> None:
    found = data(*(detail(1, faults=1, user_stack=calls(f"f{n}", "main")) for n in range(5000)))
    assert [frame.name for frame in found.frames] == ["all", "python3", "main", "[5,000 smaller]"]
    assert {frame.total_bytes for frame in found.frames} == {5000 * PAGE}
    assert (found.levels, found.cut_calls, found.cut_bytes) == (4, 5000, 5000 * PAGE)


def test_what_is_narrow_together_is_not_drawn_but_counted() -> None:
    wide = detail(1, faults=10_000, user_stack=calls("wide", "main"))
    found = data(wide, detail(1, faults=4, user_stack=calls("narrow", "main")))
    assert [frame.name for frame in found.frames] == ["all", "python3", "main", "wide"]
    assert (found.cut_calls, found.cut_bytes) == (1, 4 * PAGE)


def test_what_lies_deeper_is_one_frame() -> None:
    found = data(detail(1, user_stack=calls(*(f"f{n}" for n in range(1000)))))
    assert len(found.frames) == of.DEEPEST + 2
    assert found.frames[-1].name == "[1 deeper]"
    assert found.frames[-1].total_bytes == found.frames[0].total_bytes
    assert (found.levels, found.cut_calls) == (of.DEEPEST + 2, 1)


def test_only_the_largest_calls_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of, "MOST", 10)
    rows = [detail(1, faults=n, user_stack=calls(f"f{n}", "main")) for n in range(1, 31)]
    found = data(*rows)
    names = [frame.name for frame in found.frames]
    assert names == [
        "all",
        "python3",
        "main",
        *(f"f{n}" for n in range(30, 23, -1)),
        "[23 smaller]",
    ]
    assert found.frames[-1].total_bytes == sum(range(1, 24)) * PAGE


def test_a_tree_without_copies_is_one_frame() -> None:
    assert [frame.name for frame in data().frames] == ["all"]
    assert json.loads(as_json(data()))["total"] == [0]


def test_the_json_says_each_call_once() -> None:
    rows = [detail(1, user_stack=calls(*["f", "g"] * 20)), detail(2, user_stack=calls("f", "g"))]
    told = json.loads(as_json(data(*rows)))
    names = [name for name, _, _ in told["calls"]]
    assert sorted(names) == ["all", "f", "g", "python3", "redis"]
    columns = {len(told[name]) for name in ("call", "caller", "total", "self", "copies")}
    assert columns == {1 + 41 + 3}
    assert told["caller"][:2] == [-1, 0]


def test_a_long_name_is_cut() -> None:
    (name,) = (
        f.name for f in data(detail(1, user_stack=calls("x" * 9999))).frames if "x" in f.name
    )
    assert len(name) == 400
    assert name.endswith("…")


def page(*rows: DetailRow, title: str = "title") -> str:
    stream = io.StringIO()
    flamegraph.write(stream, stack_tree(NOW, rows), title, "sub & title")
    return stream.getvalue()


def in_page(shown: str) -> str:
    (found,) = re.findall(r'<script type="application/json" id="flame-data">(.*?)</script>', shown)
    return str(found)


def test_a_page_is_one_file_without_network() -> None:
    shown = page(*ROWS)
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", shown)
    assert f'content="{POLICY}"' in shown
    assert "unsafe-eval" not in shown
    assert "sub &amp; title" in shown
    assert "Callers are on top" in shown
    assert 280_000 < len(shown) < 330_000  # the library is in it, and little else


def test_a_hostile_name_cannot_leave_its_string() -> None:
    shown = page(detail(1, user_stack=calls(EVIL, "main", module=EVIL)), title=EVIL)
    assert "<script>alert" not in shown
    assert shown.count("<script") == shown.count("</script>") == 4
    told: dict[str, Any] = json.loads(in_page(shown))
    assert any("</script><script>alert(1)" in name for name, _, _ in told["calls"])
    assert not set("<>&\u2028\u2029\x1b") & set(in_page(shown))


def test_a_page_of_many_leaves_is_small() -> None:
    rows = [detail(1, faults=23, user_stack=calls(f"function_{n}", *(f"caller_{n % 50}_{i}"
            for i in range(20)), "main")) for n in range(2000)]  # fmt: skip
    shown = page(*rows)
    assert len(json.loads(in_page(shown))["call"]) == 1 + 1 + 1 + 50 * 20 + 2000
    assert len(shown) < 450_000


def test_a_page_says_what_is_not_drawn() -> None:
    many = [detail(1, faults=1, user_stack=calls(f"f{n}", "main")) for n in range(2500)]
    wide = detail(1, faults=2500, user_stack=calls("wide", "main"))
    assert "Not drawn one by one: 2,500 calls with 50.0% of the bytes" in page(*many, wide)
    assert "Not drawn one by one" not in page(wide)


def test_the_libraries_are_those_that_were_released() -> None:
    folder = Path(flamegraph.__file__).parent / "d3"
    lines = (line.split() for line in (folder / "SHA256SUMS").read_text().splitlines())
    sums = {name: digest for digest, name in lines}
    assert sums == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.name not in ("SHA256SUMS", "README")
    }
    assert {file.name for file in flamegraph.LIBRARIES} < set(sums)


@pytest.mark.parametrize("file", flamegraph.LIBRARIES, ids=lambda file: file.name)
def test_a_library_cannot_end_its_script(file: Path) -> None:
    assert not re.search(r"</?script|<!--", file.read_text(), re.IGNORECASE)
