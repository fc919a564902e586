"""Define what both pages share, and the template of the report."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from cowtrace.errors import CowtraceError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Names are escaped. With one that is not, the page would still load nothing over the network.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)

_NARROW = {"l": 2, "r": 2, "t": 26, "b": 4}
STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6875; --paper: #f6f7f9;
  --sheet: #ffffff; --line: #dfe4ea; --good: #00785a; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ef; --soft: #9aa7b4; --paper: #12171d;
  --sheet: #1a2129; --line: #2e3843; --good: #4cc9a0; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: 0 0 6px; }
h2 { font-size: 1.1rem; margin: 0 0 4px; }
h3 { font-size: 0.95rem; margin: 0 0 6px; }
p { margin: 0 0 8px; color: var(--soft); }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 18px 0; }
.card { flex: 1 1 110px; background: var(--sheet); border: 1px solid var(--line);
  border-radius: 8px; padding: 12px 16px; }
.card b { display: block; font-size: 1.45rem; line-height: 1.3; }
.card span { color: var(--soft); font-size: 0.85rem; }
.good b { color: var(--good); } .bad b { color: var(--bad); }
section { background: var(--sheet); border: 1px solid var(--line); border-radius: 8px;
  padding: 18px 20px; margin: 0 0 16px; }
article { padding: 12px 0; border-top: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  font-size: 0.88rem; }
td, th { text-align: right; padding: 4px 10px; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
td:first-child, th:first-child, td:nth-child(2), th:nth-child(2) { text-align: left; }
.measures td { border: 0; padding: 2px 10px 2px 0; }
.measures td:nth-child(1) { width: 44%; white-space: normal; overflow-wrap: anywhere; }
.measures td:nth-child(2), .measures td:nth-child(3) { text-align: right; width: 18%; }
.measures td:nth-child(4) { text-align: left; padding-left: 24px; color: var(--soft); }
.q.exact { color: var(--good) !important; }
.q.lower_bound, .q.incomplete { color: var(--bad) !important; }
.wide { overflow-x: auto; max-height: 480px; }
.words { color: var(--ink); font-size: 1rem; }
.none { font-style: italic; }
"""

SCRIPT = """
const dark = matchMedia('(prefers-color-scheme: dark)');
function paint() {
  const ink = dark.matches ? '#e4e9ef' : '#1d2733', line = dark.matches ? '#2e3843' : '#dfe4ea';
  for (const chart of document.querySelectorAll('.plotly-graph-div')) {
    const change = {'font.color': ink};
    for (const axis of Object.keys(chart._fullLayout || {}).filter(k => /^[xy]axis\\d*$/.test(k))) {
      change[axis + '.gridcolor'] = line; change[axis + '.zerolinecolor'] = line;
    }
    Plotly.relayout(chart, change);
  }
}
dark.addEventListener('change', paint);
addEventListener('load', paint);
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}: copy-on-write</title>
<style>{style}</style>
<script>{plotly}</script>
</head>
<body>
<main>
<h1>{summary}</h1>
<p class="words">{words}</p>
<p>{origin}</p>
<div class="cards">{cards}</div>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""


def plain(text: str) -> str:
    """Escape a name for plotly, which reads a few tags and entities in labels."""
    return escape(text, quote=False)


def plotly_script(without: str) -> str:
    """Plotly's own script. `without`: a command that needs none. Raises CowtraceError where plotly
    is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise CowtraceError(
            "the page needs plotly, which is not installed",
            hint=f"pip install 'cowtrace[report]'; without it: {without}",
        ) from None
    script: str = get_plotlyjs()
    return script


def chart(
    name: str, title: str, figure: Figure | None, words: str, *, none: str = "", axes: bool = True
) -> str:
    """A section of a page: a figure, or why there is none (`none`). Not `axes`: without margins."""
    if figure is None:
        return section(name, title, none=none)
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 76, "r": 16, "t": 34, "b": 48} if axes else _NARROW,
        font={"family": "system-ui, sans-serif", "size": 13},
    )  # fmt: skip
    drawn = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"chart-{name}",
        config={"displaylogo": False, "displayModeBar": False, "responsive": True},
    )
    return section(name, title, words, drawn)


def section(name: str, title: str, words: str = "", drawn: str = "", *, none: str = "") -> str:
    """A section of a page: what is `drawn`, or why there is nothing (`none`)."""
    text = f"<p>{words}</p>{drawn}" if drawn else f"<p class='none'>{none}</p>"
    return f"<section id='{name}'><h2>{title}</h2>{text}</section>"
