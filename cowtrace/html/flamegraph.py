"""Draw a tree of calls as a flame graph: a plotly figure, or a page that needs no network."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, TextIO

from cowtrace.analysis.stacks import Node
from cowtrace.errors import CowtraceError
from cowtrace.html.parts import POLICY, plain
from cowtrace.numbers import count, percent, size

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_LEAST = 1 / 2000  # of all bytes: a call with less would be too narrow to see
_DEEPEST = 200
_MODULES = ("#e8743b", "#f2a541", "#d9534f", "#f6c667", "#c96b4b", "#eb9486", "#f3b562", "#d98e73")
_KERNEL, _PYTHON, _OTHER = "#8c9cc4", "#6aa86f", "#c9c3b8"


def flame_figure(root: Node) -> Figure:
    """Draw callers below their callees; a click on a call shows it alone.

    Raises CowtraceError where plotly is not installed.
    """
    try:
        from plotly.graph_objects import Figure, Icicle
    except ImportError:
        raise CowtraceError(
            "the flame graph needs plotly, which is not installed",
            hint="pip install 'cowtrace[report]'; or take --format speedscope, folded or top",
        ) from None
    return Figure(
        Icicle(
            **_columns(root),
            branchvalues="total",
            root={"color": "#e6e1d6"},
            tiling={"orientation": "v", "flip": "y"},
            pathbar={"visible": True, "side": "top"},
            hovertemplate="<b>%{label}</b><br>%{hovertext}<extra></extra>",
            sort=True,
            textfont={"color": "#1d1d1d"},  # readable on every theme
            leaf={"opacity": 1},
        ),
        layout={
            "margin": {"l": 4, "r": 4, "t": 28, "b": 4},
            "font": {"family": "system-ui, sans-serif", "size": 12},
            "uniformtext": {"minsize": 9, "mode": "hide"},
        },
    )


def _columns(root: Node) -> dict[str, object]:
    """The nodes that are wide enough to see, as the parallel lists that plotly takes."""
    drawn: list[tuple[Node, str, int]] = []  # with the id of the caller, and the depth
    rest = [(root, "", 0)]
    all_bytes = max(1, root.total_bytes)
    while rest:
        node, parent, depth = rest.pop()
        number = str(len(drawn))
        drawn.append((node, parent, depth))
        if depth < _DEEPEST:
            rest += [
                (child, number, depth + 1)
                for child in node.children.values()
                if child.total_bytes >= all_bytes * _LEAST
            ]
    return {
        "ids": [str(number) for number in range(len(drawn))],
        "labels": [plain(node.call.name) for node, _, _ in drawn],
        "parents": [parent for _, parent, _ in drawn],
        "values": [node.total_bytes for node, _, _ in drawn],
        "hovertext": [_hover(node, all_bytes) for node, _, _ in drawn],
        "marker": {
            "colors": [_colour(node, depth) for node, _, depth in drawn],
            "line": {"width": 0.5, "color": "white"},
        },
    }


def _hover(node: Node, all_bytes: int) -> str:
    module = f"{plain(node.call.module)}<br>" if node.call.module else ""
    own = f"<br>itself {size(node.self_bytes, ' ')}" if node.self_bytes else ""
    copied = f"{size(node.total_bytes, ' ')} in {count(node.faults)} copies"
    return f"{module}{copied}, {percent(node.total_bytes / all_bytes)}{own}"


def _colour(node: Node, depth: int) -> str:
    module = node.call.module
    if depth < 2 or not module:
        return _OTHER
    if module == "[kernel]":
        return _KERNEL
    if module.endswith((".py", ">")):
        return _PYTHON
    return _MODULES[sum(module.encode()) % len(_MODULES)]


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
    """Write the page. Raises CowtraceError where plotly is not installed."""
    figure = flame_figure(root).to_html(
        full_html=False,
        include_plotlyjs=True,
        default_height="100%",
        config={"displayModeBar": False, "responsive": True},
    )
    stream.write(
        _PAGE.format(policy=POLICY, title=escape(title), subtitle=escape(subtitle), figure=figure)
    )
