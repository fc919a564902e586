"""Open the flame graph in a real browser: names can be read, search and zoom work."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from chromium import drawn

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from made_recordings import make
from snapshots import calls, detail, process, snapshot

from cowtrace.analysis.stacks import stack_tree
from cowtrace.html import flamegraph
from cowtrace.html.report import document
from cowtrace.model import DetailRow

pytestmark = pytest.mark.host

EVIL = "</script><img src=x onerror=console.error(1)><b>&amp;"
ROW = 18  # pixels
# Write what a user sees, as JSON, where the test can read it.
READ = """
const seen = () => [...document.querySelectorAll('#chart-flame g')].map(g => {
  const box = g.querySelector('rect').getBoundingClientRect();
  const label = g.querySelector('.d3-flame-graph-label');
  const text = label.getBoundingClientRect();
  return {name: g.getAttribute('name'), label: text.height ? label.innerText : '',
    text_height: text.height, width: Math.round(box.width), height: Math.round(box.height),
    fill: g.querySelector('rect').getAttribute('fill'),
    row: Math.round(box.top - document.querySelector('#chart-flame').getBoundingClientRect().top)};
});
function tell() {
  const told = document.createElement('pre');
  told.id = 'told';
  told.textContent = JSON.stringify({frames: seen(),
    found: document.getElementById('flame-found').textContent,
    tip: document.getElementById('flame-tip').hidden ? '' :
      document.getElementById('flame-tip').textContent});
  document.body.append(told);
}
const frame = name => document.querySelector(`#chart-flame g[name=${name}]`);
function search(words) {
  const field = document.getElementById('flame-search');
  field.focus();
  field.value = words;
  field.dispatchEvent(new Event('input', {bubbles: true}));
}
const press = key => document.activeElement.dispatchEvent(
  new KeyboardEvent('keydown', {key, bubbles: true}));
const click = name => frame(name).dispatchEvent(new MouseEvent('click', {bubbles: true}));
%s
tell();
"""


@dataclass(frozen=True)
class Seen:
    """What a user sees."""

    frames: list[dict[str, Any]]
    found: str  # beside the search field
    tip: str  # beside the pointer

    def widths(self) -> dict[str, int]:
        return {each["name"]: each["width"] for each in self.frames}


def stack(levels: int) -> tuple[str, ...]:
    """With the root and the process, so many levels."""
    return tuple(f"call_{n}" for n in reversed(range(levels - 2)))


def written(folder: Path, *rows: DetailRow, title: str = "34 copies") -> Path:
    page = folder / "flame.html"
    now = snapshot(process(1, "python3"))
    with page.open("w") as stream:
        flamegraph.write(stream, stack_tree(now, rows), title, "34 copies")
    return page


def look(browser: str, page: Path, *options: str, act: str = "") -> Seen:
    shown = drawn(browser, page, "--window-size=1200,700", *options, script=READ % act)
    (told,) = re.findall(r'<pre id="told">(.*?)</pre>', shown, re.DOTALL)
    return Seen(**json.loads(unescape(told)))


@pytest.mark.parametrize("levels", [3, 35, 120])
def test_names_can_be_read_whatever_the_depth(browser: str, tmp_path: Path, levels: int) -> None:
    page = written(tmp_path, detail(1, faults=23, user_stack=calls(*stack(levels))))
    frames = look(browser, page).frames
    names = ["all", "python3", *reversed(stack(levels))]
    assert [each["label"] for each in frames] == names
    assert [each["row"] for each in frames] == [n * ROW for n in range(levels)]
    assert {each["height"] for each in frames} == {ROW}
    assert {each["text_height"] for each in frames} == {ROW}
    assert {each["width"] > 1000 for each in frames} == {True}


MAIN = calls("main")
TWO = (
    detail(1, faults=30, user_stack=(*calls("collect_garbage", "collect"), *MAIN)),
    detail(1, faults=10, user_stack=(*calls("rehash", module="/usr/lib/libdict.so"), *MAIN)),
)


def test_search_marks_what_it_finds_and_says_how_much(browser: str, tmp_path: Path) -> None:
    seen = look(browser, written(tmp_path, *TWO), act="search('COLLECT');")
    assert seen.found == "75.0% in 2 calls"  # one of them in the other
    colours = {each["name"]: each["fill"] for each in seen.frames}
    assert colours["collect"] == colours["collect_garbage"]
    assert colours["collect"] not in (colours["main"], colours["rehash"])
    assert look(browser, written(tmp_path, *TWO), act="search('libdict');").found == (
        "25.0% in 1 call"
    )
    assert look(browser, written(tmp_path, *TWO), act="search('(');").found == "0.0% in 0 calls"
    emptied = look(browser, written(tmp_path, *TWO), act="search('collect'); search('');")
    assert emptied.found == ""
    assert "collect" not in {e["name"] for e in emptied.frames if e["fill"] == colours["collect"]}


def test_a_click_zooms_and_both_the_button_and_escape_show_all(
    browser: str, tmp_path: Path
) -> None:
    page = written(tmp_path, *TWO)
    whole = look(browser, page).widths()
    assert whole["rehash"] == pytest.approx(whole["main"] / 4, abs=2)
    zoomed = look(browser, page, act="click('rehash');").widths()
    assert zoomed["rehash"] == zoomed["main"] == whole["main"]
    assert "collect" not in zoomed
    for act in ("document.getElementById('flame-reset').click()", "press('Escape')"):
        again = look(browser, page, act=f"click('rehash'); {act};")
        assert again.widths() == whole


def test_enter_zooms_to_what_was_found(browser: str, tmp_path: Path) -> None:
    seen = look(browser, written(tmp_path, *TWO), act="search('rehash'); press('Enter');")
    assert seen.widths()["rehash"] == seen.widths()["all"]
    assert seen.found == "25.0% in 1 call"


def test_the_pointer_shows_details(browser: str, tmp_path: Path) -> None:
    act = "frame('main').dispatchEvent(new MouseEvent('mouseover', {bubbles: true}));"
    assert look(browser, written(tmp_path, *TWO), act=act).tip == (
        "main\n/usr/bin/python3.13\n160 KiB in 40 copies, 100%\nitself 0 B"
    )


def test_hostile_names_are_text(browser: str, tmp_path: Path) -> None:
    rows = (*TWO, detail(1, faults=99, user_stack=(*calls(EVIL, module=EVIL), *MAIN)))
    page = written(tmp_path, *rows, title=EVIL)
    act = "document.querySelectorAll('#chart-flame g').forEach(g => g.dispatchEvent("
    act += "new MouseEvent('mouseover', {bubbles: true}))); search('<img');"
    seen = look(browser, page, act=act)
    assert EVIL in {each["label"] for each in seen.frames}
    assert seen.found.endswith("in 1 call")
    assert "<img" not in drawn(browser, page).partition('<div class="flame-tools">')[0]
    assert "<img" not in re.sub(r'name="[^"]*"', "", drawn(browser, page))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_in_the_report(browser: str, tmp_path: Path, theme: str) -> None:
    pytest.importorskip("plotly", reason="the extra cowtrace[report] is not installed")
    page = tmp_path / "report.html"
    page.write_text(document(make(tmp_path / "f"), "f"))
    dark = ["--blink-settings=preferredColorScheme=0"] if theme == "dark" else []
    seen = look(browser, page, *dark, act="search('gc_collect');")
    assert "gc_collect_main" in {each["label"] for each in seen.frames}
    assert {each["height"] for each in seen.frames} == {ROW}
    assert seen.found == "67.6% in 1 call"
