"""Draw a tree of calls as a flame graph: the body of a section, or a page that needs no network."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TextIO

from cowtrace.analysis.stacks import Node
from cowtrace.html.flame_data import DEEPEST, LEAST, MOST, FlameData, as_json, flame_data
from cowtrace.html.parts import POLICY, STYLE
from cowtrace.numbers import count, percent

_HERE = Path(__file__).parent
LIBRARIES = (_HERE / "d3" / "d3.min.js", _HERE / "d3" / "d3-flamegraph.umd.min.js")
HOW = (
    "Width: bytes copied. Callers are on top: a call is below its caller. Click a call to see it "
    "alone. Green: Python, blue: kernel, violet: what was written."
)

_BODY = """<style>{style}</style>
<div class="flame-tools">
<label>Search <input type="search" id="flame-search" spellcheck="false" autocomplete="off"
 placeholder="function or file; Enter zooms"></label>
<button type="button" id="flame-reset">Reset zoom</button>
<output id="flame-found" for="flame-search"></output>
</div>
<div id="chart-flame"></div>
<script type="application/json" id="flame-data">{data}</script>
{scripts}
"""


def body(root: Node) -> str:
    """The graph and its search field, with the scripts that draw it; once a page."""
    data = flame_data(root)
    sources = (*LIBRARIES, _HERE / "flamegraph.js")
    cut = f"<p>{_cut(data, root)}</p>\n" if data.cut_calls else ""
    return cut + _BODY.format(
        style=(_HERE / "flamegraph.css").read_text(),
        data=as_json(data),
        scripts="\n".join(f"<script>{each.read_text()}</script>" for each in sources),
    )


def _cut(data: FlameData, root: Node) -> str:
    """Say what is not drawn."""
    share = percent(data.cut_bytes / max(1, root.total_bytes))
    return (
        f"Not drawn one by one: {count(data.cut_calls)} calls with {share} of the bytes, each "
        f"under 1/{round(1 / LEAST):,} of all, below {DEEPEST} levels or beyond {MOST:,} calls. "
        "Grey [N smaller] or [N deeper]: several of them."
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}
:root {{ --paper: var(--sheet); }}
main {{ max-width: none; padding: 12px 16px; }}
h1 {{ font-size: 1.15rem; margin: 0; }}
p {{ margin: 2px 0; font-size: 0.9rem; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{subtitle}</p>
<p>{how}</p>
{body}
</main>
</body>
</html>
"""


def write(stream: TextIO, root: Node, title: str, subtitle: str) -> None:
    """Write the page."""
    stream.write(
        _PAGE.format(
            policy=POLICY,
            title=escape(title),
            style=STYLE,
            subtitle=escape(subtitle),
            how=HOW,
            body=body(root),
        )
    )
