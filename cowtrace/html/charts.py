"""Draw a recording as plotly figures: copies over time, mappings, latency, private memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from html import escape
from math import floor, log10
from typing import TYPE_CHECKING, Any

from cowtrace.analysis.latency import timings
from cowtrace.analysis.mappings import label
from cowtrace.analysis.questions.answer import Answer
from cowtrace.analysis.questions.causes import mapping_name
from cowtrace.html.parts import plain
from cowtrace.model import COPIES, FaultKind
from cowtrace.numbers import brief, size
from cowtrace.recording import Recording
from cowtrace.text import printable

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Okabe and Ito's palette, which colour-blind readers can distinguish.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
_MOST = 7  # processes with a colour of their own
_OTHERS = "others"  # no process's name: that would end with its pid
_KINDS = ((FaultKind.COPIED, "copied"), (FaultKind.FILE_COPIED, "file-copied"),
          (FaultKind.ZERO_FILLED, "zero-filled"))  # fmt: skip
_SIDES = {"parent": COLOURS[0], "child": COLOURS[1], "other": COLOURS[7]}
_MARKED = 400  # forks and exits at most: more would hide the bars


def over_time(recording: Recording) -> Figure:
    """Draw bytes copied a second, by process and by kind, with forks and exits marked."""
    from plotly.graph_objects import Bar
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.09,
                           subplot_titles=("Copied, by process", "By kind"))  # fmt: skip
    began = recording.last.attached_ns
    ends = recording.ends
    starts = (began, *ends[:-1])
    x = [((a + b) / 2 - began) / 1e9 for a, b in zip(starts, ends, strict=True)]
    width = [(b - a) / 1e9 for a, b in zip(starts, ends, strict=True)]
    by_process: dict[str, Counter[int]] = defaultdict(Counter)
    by_kind: dict[FaultKind, Counter[int]] = defaultdict(Counter)
    names = _names(recording)
    for point in recording.points:
        if point.kind in COPIES:
            by_process[names[point.process]][point.at_ns] += point.bytes
        by_kind[point.kind][point.at_ns] += point.bytes
    # The others lie on top of those that have names, in grey.
    shown = sorted(
        (name for name in dict.fromkeys(names) if name in by_process), key=_OTHERS.__eq__
    )
    processes = [(name, by_process[name]) for name in shown]
    kinds = [(name, by_kind[kind]) for kind, name in _KINDS if kind in by_kind]
    axes = {}
    charts = (processes, "legend", "yaxis"), (kinds, "legend2", "yaxis2")
    for row, (series, legend, axis) in enumerate(charts, 1):
        for at, (name, sums) in enumerate(series):
            rates = [sums[end] / max(1e-9, w) for end, w in zip(ends, width, strict=True)]
            colour = COLOURS[-1] if name == _OTHERS else COLOURS[at % len(COLOURS)]
            figure.add_trace(
                Bar(
                    x=x, y=rates, width=width, name=plain(name),
                    marker={"color": colour, "line": {"width": 0}},
                    customdata=[size(rate, " ") for rate in rates],
                    hovertemplate="%{customdata}/s at %{x:.1f} s",
                    legend=legend,
                ),
                row=row, col=1,
            )  # fmt: skip
        highest = max((sum(sums[end] for _, sums in series) / max(1e-9, w)
                       for end, w in zip(ends, width, strict=True)), default=0)  # fmt: skip
        axes[axis] = bytes_axis(highest)
    for marks in _marks(recording):
        figure.add_trace(marks, row=1, col=1)
    figure.update_layout(
        barmode="stack", bargap=0, height=560,
        legend={"y": 1, "yanchor": "top"}, legend2={"y": 0.42, "yanchor": "top"},
    )  # fmt: skip
    figure.update_layout(axes)
    # With few bars, plotly would put the ticks where the bars are.
    figure.update_xaxes(tick0=0, dtick=_step(sum(width)), range=[0, sum(width)])
    figure.update_xaxes(title_text="seconds since attach", row=2, col=1)
    return figure


def waterfall(answer: Answer) -> Figure | None:
    """Draw how private memory grew, from cause to cause. `answer`: private_memory(); None: not
    recorded."""
    from plotly.graph_objects import Figure, Waterfall

    parts = [each for each in answer.measures if not each.aside]
    if len(parts) < 3:
        return None
    first, *causes, last = parts
    signs = (-1 if each.name.startswith("-") else 1 for each in causes)
    changes = [sign * (each.value or 0) for sign, each in zip(signs, causes, strict=True)]
    highest = (first.value or 0) + sum(max(0, change) for change in changes)
    return Figure(
        Waterfall(
            x=[plain(each.name) for each in parts],
            y=[first.value, *changes, 0],
            measure=["absolute", *["relative"] * len(causes), "total"],
            text=[each.text for each in parts], textposition="outside",
            hovertemplate="%{x}: %{text}<extra></extra>",
            increasing={"marker": {"color": COLOURS[5]}},
            decreasing={"marker": {"color": COLOURS[2]}},
            totals={"marker": {"color": COLOURS[0]}},
        ),
        layout={"height": 460, "yaxis": bytes_axis(max(highest, last.value or 0), "")},
    )  # fmt: skip


def treemap(recording: Recording) -> Figure | None:
    """Draw the mappings of each process by the bytes copied in them; None: not recorded."""
    from plotly.graph_objects import Figure, Treemap

    names = {process.pid: printable(process.comm) for process in recording.last.processes}
    sums = Counter[tuple[str, str]]()
    for row in recording.last.details:
        if row.kind in COPIES and row.bytes > 0:
            name = mapping_name(label(row.mapping) if row.mapping else None)
            sums[names.get(row.pid, "?"), name] += row.bytes
    if not sums:
        return None
    processes = Counter[str]()
    for (process, _), copied in sums.items():
        processes[process] += copied
    ids = ["all", *(f"p {p}" for p in processes), *(f"m {p}\0{m}" for p, m in sums)]
    values = [processes.total(), *processes.values(), *sums.values()]
    labels = ["all mappings", *map(plain, processes), *(plain(m) for _, m in sums)]
    parents = ["", *("all" for _ in processes), *(f"p {p}" for p, _ in sums)]
    return Figure(
        Treemap(
            ids=[escape(each) for each in ids], labels=labels, values=values,
            parents=[escape(each) for each in parents], branchvalues="total",
            text=[size(value, " ") for value in values],
            texttemplate="<b>%{label}</b><br>%{text}", textposition="top left",
            hovertemplate="<b>%{label}</b><br>%{text}, %{percentRoot:.1%} of all<extra></extra>",
            marker={"cornerradius": 3}, root={"color": "rgba(0,0,0,0)"},
        ),
        layout={"height": 420, "treemapcolorway": list(COLOURS[:6])},
    )  # fmt: skip


def latencies(recording: Recording) -> Figure | None:
    """Draw a histogram for each kind, parent and child side by side; None: not timed."""
    from plotly.graph_objects import Bar
    from plotly.subplots import make_subplots

    found = timings(recording.last)
    kinds = [kind for kind in FaultKind if any(timing.kind is kind for timing in found)][:4]
    if not kinds:
        return None
    used = [bucket for timing in found for bucket, _ in timing.buckets]
    buckets = range(min(used), max(used) + 1)
    figure = make_subplots(rows=len(kinds), cols=1, shared_xaxes=True, vertical_spacing=0.08,
                           subplot_titles=[kind.label for kind in kinds])  # fmt: skip
    in_legend: set[str] = set()
    for timing in found:
        if timing.kind in kinds:
            held = dict(timing.buckets)
            figure.add_trace(
                Bar(
                    x=[f"{brief(1 << b)} to {brief(2 << b)}" for b in buckets],
                    y=[held.get(bucket, 0) for bucket in buckets],
                    name=timing.side, legendgroup=timing.side,
                    showlegend=timing.side not in in_legend,
                    marker={"color": _SIDES[timing.side]},
                    hovertemplate="%{y:,} faults took %{x}",
                ),
                row=kinds.index(timing.kind) + 1, col=1,
            )  # fmt: skip
            in_legend.add(timing.side)
    figure.update_layout(barmode="group", height=160 + 170 * len(kinds))
    figure.update_yaxes(title_text="faults")
    return figure


def _marks(recording: Recording) -> list[Any]:
    """Mark the times of forks, and of the exits and execs that ended the sharing."""
    from plotly.graph_objects import Scatter

    began = recording.last.attached_ns
    forks = [(g.at_ns, f"fork {g.number}: {g.parent} > {g.child}")
             for g in recording.last.generations]  # fmt: skip
    exits = [(g.ended_ns, f"{g.child}: {g.ended_by.value if g.ended_by else 'end'}")
             for g in recording.last.generations if g.ended_ns is not None]  # fmt: skip
    found = []
    for name, marks, symbol, colour in (
        ("fork", forks, "triangle-up", "#D55E00"),
        ("exit or exec", exits, "x", "#777777"),
    ):
        shown = marks[:_MARKED]
        if shown:
            found.append(
                Scatter(
                    x=[(at - began) / 1e9 for at, _ in shown], y=[0] * len(shown),
                    mode="markers", name=name, cliponaxis=False,
                    marker={"symbol": symbol, "size": 10, "color": colour,
                            "line": {"width": 1, "color": "white"}},
                    hovertext=[words for _, words in shown],
                    hovertemplate="%{hovertext} at %{x:.2f} s<extra></extra>",
                )
            )  # fmt: skip
    return found


def _names(recording: Recording) -> list[str]:
    """Name each process in the chart: _OTHERS unless it is one of those that copied most."""
    processes = recording.last.processes
    most = sorted(range(len(processes)), key=lambda i: -processes[i].copied_bytes)
    shown = set(most if len(processes) <= _MOST + 1 else most[:_MOST])
    return [
        f"{printable(process.comm)} {process.pid}" if i in shown else _OTHERS
        for i, process in enumerate(processes)
    ]


def _step(seconds: float) -> float:
    """A step of 1, 2 or 5 times a power of ten: 4 to 10 of them fit into these seconds."""
    power = 10.0 ** floor(log10(max(1e-3, seconds)))
    return next(power * part for part in (0.1, 0.2, 0.5, 1) if seconds <= power * part * 10)


def bytes_axis(most: float, unit: str = "/s") -> dict[str, Any]:
    """Ticks at round numbers of KiB, MiB...: plotly's own are powers of 1000."""
    step = 1.0
    while most / step > 5:
        step *= 2
    ticks = [step * i for i in range(int(most / step) + 2)]
    return {
        "tickvals": ticks,
        "ticktext": [size(tick, " ").replace(".00", "").replace(".0 ", " ") + unit if tick else "0"
                     for tick in ticks],
        "range": [0, max(most * 1.08, 1)],
        "ticks": "outside", "ticklen": 4, "tickcolor": "rgba(0,0,0,0)",  # a gap
    }  # fmt: skip
