"""A tree of calls -> one HTML file with an interactive flame graph, which needs no network."""

from __future__ import annotations

from html import escape
from typing import TextIO

from cowtrace.analysis.stacks import Node
from cowtrace.html.flame import flame_figure

# Names are escaped; should one slip through, the page still loads nothing from anywhere.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
body {{ font-family: system-ui, sans-serif; margin: 0.8rem; color: #222; background: #fff; }}
h1 {{ font-size: 1.1rem; margin: 0; }}
p {{ margin: 0.2rem 0; color: #555; font-size: 0.9rem; }}
.plotly-graph-div {{ height: calc(100vh - 6.5rem) !important; min-height: 20rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{subtitle}</p>
<p>Width: bytes copied. A call stands on its caller; click one to see it alone. Green: Python,
blue: kernel.</p>
{figure}
</body>
</html>
"""


def write(stream: TextIO, root: Node, title: str, subtitle: str) -> None:
    """Raises CowtraceError where plotly is not installed."""
    figure = flame_figure(root).to_html(
        full_html=False,
        include_plotlyjs=True,
        default_height="100%",
        config={"displayModeBar": False, "responsive": True},
    )
    stream.write(
        _PAGE.format(policy=_POLICY, title=escape(title), subtitle=escape(subtitle), figure=figure)
    )
