"""Draw who shares how much memory with whom: one page with a heat map and how sharing decays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from cowtrace.analysis.shared import Sharing
from cowtrace.html.charts import COLOURS, bytes_axis
from cowtrace.html.parts import PAGE, POLICY, SCRIPT, STYLE, chart, plain
from cowtrace.numbers import size
from cowtrace.text import printable

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def document(readings: Sequence[Sharing], names: Mapping[int, str], script: str) -> str:
    """The page: of the last reading, and of all in turn. `names`: by pid. `script`: plotly's."""
    now = readings[-1]
    words = f"{size(now.anonymous, ' ')} of anonymous memory, each page once"
    return PAGE.format(
        policy=POLICY,
        style=STYLE,
        plotly=script,
        script=SCRIPT,
        title="cowtrace shared",
        summary=f"{len(now.holders)} processes: {words}",
        words="Who shares how much memory with whom.",
        origin=f"Read {len(readings):,} times, the last time in {now.seconds:.2f} s.",
        cards="".join(_cards(now)),
        body="".join((
            chart("pairs", "Each two of them", heat_map(now, names),
                  "Anonymous memory that both map; on the diagonal, what an exit frees."),
            chart("decay", "How sharing decays", decay(readings),
                  "Memory that so many of them map.",
                  none="With INTERVAL, it is read again and again."),
        )),
    )  # fmt: skip


def heat_map(now: Sharing, names: Mapping[int, str]) -> Figure:
    """Bytes that each two have in common; on the diagonal those that an exit frees."""
    from plotly.graph_objects import Figure, Heatmap

    pids = [held.pid for held in now.holders]
    labels = [f"{plain(printable(names[pid]))} {pid}" for pid in pids]
    freed = {held.pid: held.freed_by_exit for held in now.holders}
    rows = [
        [freed[one] if one == other else now.pairs[min(one, other), max(one, other)]
         for other in pids]
        for one in pids
    ]  # fmt: skip
    return Figure(
        Heatmap(
            x=labels, y=labels, z=rows, text=[[size(value) for value in row] for row in rows],
            texttemplate="%{text}" if len(pids) <= 12 else None,
            hovertemplate="%{y}, %{x}: %{text}<extra></extra>", colorscale="Blues", showscale=False,
        ),
        layout={
            "height": max(240, min(900, 90 + 34 * len(pids))),
            "xaxis": {"type": "category"},
            "yaxis": {"type": "category", "autorange": "reversed"},
        },
    )  # fmt: skip


def decay(readings: Sequence[Sharing]) -> Figure | None:
    """Bytes that exactly so many of the processes map, reading by reading; None: there is one."""
    from plotly.graph_objects import Figure, Scatter

    if len(readings) < 2:
        return None
    most = max(len(each.by_holders) for each in readings)
    seconds = [(each.at_ns - readings[0].at_ns) / 1e9 for each in readings]
    lines = []
    for number in range(most, 0, -1):
        held = [each.by_holders[number - 1] if number <= len(each.by_holders) else 0
                for each in readings]  # fmt: skip
        if any(held):
            lines.append(Scatter(
                x=seconds, y=held, name=f"mapped by {number}", mode="lines", stackgroup="one",
                line={"width": 0.5, "color": COLOURS[(number - 1) % len(COLOURS)]},
                customdata=[size(value, " ") for value in held],
                hovertemplate="%{customdata} at %{x:.1f} s",
            ))  # fmt: skip
    highest = max(each.anonymous for each in readings)
    figure = Figure(lines, layout={"height": 420, "yaxis": bytes_axis(highest, "")})
    figure.update_xaxes(title_text="seconds since the first reading")
    return figure


def _cards(now: Sharing) -> list[str]:
    freed = max((held.freed_by_exit for held in now.holders), default=0)
    common = sum(now.by_holders[1:])
    told = ((size(common, " "), "in common"), (size(freed, " "), "freed by an exit, at most"))
    return [
        f'<div class="card"><b>{escape(value)}</b><span>{words}</span></div>'
        for value, words in told
    ]
