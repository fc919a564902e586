"""Write a recording as one HTML page of charts and the answers, without network access."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from cowtrace.analysis.questions import answers, in_words
from cowtrace.analysis.questions.answer import Answer, absent, copied_bytes
from cowtrace.analysis.questions.sums import ending
from cowtrace.analysis.questions.written import DETAIL as OBJECTS
from cowtrace.analysis.stacks import Node, stack_tree
from cowtrace.html import flamegraph
from cowtrace.html.parts import PAGE, POLICY, SCRIPT, STYLE, chart, plotly_script, section
from cowtrace.model import ForkGeneration
from cowtrace.numbers import brief, count, percent, size
from cowtrace.recording import Recording
from cowtrace.terminal.report import origin, summary
from cowtrace.text import printable

_FORKS = 200  # rows of the table


def document(recording: Recording, name: str) -> str:
    """Make the page. Raises CowtraceError where plotly is not installed."""
    script = plotly_script("cowtrace report FILE")
    tree = stack_tree(recording.last, recording.last.samples)
    found = answers(recording, tree=tree)
    flame = tree
    if OBJECTS in recording.header.details:
        flame = stack_tree(recording.last, recording.last.samples, written=True)
    return PAGE.format(
        policy=POLICY,
        style=STYLE,
        plotly=script,
        script=SCRIPT,
        title=escape(printable(name)),
        summary=escape(summary(recording, name)),
        words=escape(in_words(found)),
        origin=escape(origin(recording)),
        cards="".join(_cards(recording)),
        body="".join(_sections(recording, found, flame)),
    )


def _cards(recording: Recording) -> Iterator[str]:
    now = recording.last
    lost, unclassified = now.completeness.lost, now.unclassified
    partly = now.completeness.lost_details
    live = [g.worst_case_bytes for g in now.generations if g.ended_ns is None]
    may_come = sum(b for b in live if b is not None) if None not in live else None
    for value, words, style in (
        (size(copied_bytes(recording), " "), "copied", ""),
        (count(len(now.generations)), "forks", ""),
        (size(may_come, " "), "may still be copied, at most", ""),
        (count(lost), "faults lost", "bad" if lost else "good"),
        *([(count(partly), "lost in details", "bad")] if partly else ()),
        (count(unclassified), "unclassified", "bad" if unclassified else "good"),
    ):
        yield f'<div class="card {style}"><b>{value}</b><span>{words}</span></div>'


def _sections(recording: Recording, found: Sequence[Answer], tree: Node) -> Iterator[str]:
    from cowtrace.html import charts

    yield chart("time", "Copied over time", charts.over_time(recording),
                 "Triangles: forks. Crosses: the end of a child, or its exec.")  # fmt: skip
    yield section("flame", "Which code copies", f"An estimate, from samples. {flamegraph.HOW}",
                  flamegraph.body(tree) if tree.total_bytes else "",
                  none=_none(recording, "samples"))  # fmt: skip
    yield chart("mappings", "In which mapping", charts.treemap(recording), "",
                 none=_none(recording, "mapping"), axes=False)  # fmt: skip
    yield chart("latency", "How long the faults took", charts.latencies(recording),
                 "Each bar: faults that took so long, to a power of two.",
                 none=_none(recording, "latency"))  # fmt: skip
    yield chart("private", "Where private memory came from", charts.waterfall(found[10]),
                 "All processes that were read together: from the start to the end.",
                 none=found[10].note or "")  # fmt: skip
    yield _forks(recording)
    yield "<section id='answers'><h2>The questions</h2>"
    for answer in found:
        yield _answer(answer)
    yield "</section>"
    yield _completeness(recording)


def _none(recording: Recording, detail: str) -> str:
    """Why this detail has no chart."""
    if detail in recording.header.details:
        return "Nothing was copied."
    return f"{absent(recording, detail).value.capitalize()}."


def _forks(recording: Recording) -> str:
    generations = sorted(recording.last.generations, key=lambda g: -g.copied_bytes)
    head = "<section id='forks'><h2>Forks</h2>"
    if not generations:
        return f"{head}<p class='none'>No fork was recorded.</p></section>"
    names = {process.pid: printable(process.comm) for process in recording.last.processes}
    began = recording.last.attached_ns
    rows = "".join(_fork(each, began, names) for each in generations[:_FORKS])
    more = f"<p>{len(generations) - _FORKS:,} more are not shown.</p>" * (len(generations) > _FORKS)
    return (
        f"{head}<p>Shareable: anonymous memory of the child at the fork. Lost and worst case are "
        "upper bounds.</p><div class='wide'><table><thead><tr><th>Fork</th><th>Name</th>"
        "<th>Parent</th><th>Child</th><th>At</th><th>Ended</th><th>Call</th><th>Page tables</th>"
        "<th>Shareable</th>"
        "<th>By parent</th><th>By child</th>"
        f"<th>Lost</th><th>Worst case</th></tr></thead><tbody>{rows}</tbody></table></div>"
        f"{more}</section>"
    )


def _fork(each: ForkGeneration, began: int, names: dict[int, str]) -> str:
    ended = "lives"
    if each.ended_ns is not None:
        why = each.ended_by.value if each.ended_by else "end"
        ended = f"{(each.ended_ns - began) / 1e9:,.1f} s, {why}"
    cells = (
        str(each.number),
        names.get(each.parent) or names.get(each.child) or "?",
        str(each.parent),
        str(each.child),
        f"{(each.at_ns - began) / 1e9:,.1f} s",
        ended,
        brief(each.fork_ns),
        size(each.page_table_bytes, " "),
        size(each.shareable_bytes, " "),
        size(each.parent_copied_bytes, " "),
        size(each.child_copied_bytes, " "),
        percent(each.share_lost),
        size(each.worst_case_bytes, " "),
    )
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _answer(answer: Answer) -> str:
    rows = "".join(
        f"<tr><td>{escape(each.name)}</td>"
        f"<td>{each.text}</td>"
        f"<td>{'' if each.faults is None else f'{each.faults:,} faults'}</td>"
        f"<td class='q {each.quality.name.lower()}'>{each.quality.value}</td></tr>"
        for each in answer.measures
    )
    table = f"<table class='measures'>{rows}</table>" if rows else ""
    note = f"<p>{escape(answer.note)}</p>" if answer.note else ""
    return f"<article><h3>{answer.number}. {escape(answer.question)}</h3>{table}{note}</article>"


def _completeness(recording: Recording) -> str:
    done = recording.last.completeness
    causes = ", ".join(f"{escape(printable(cause))} {n:,}" for cause, n in done.causes)
    unseen = ", ".join(kind.label for kind in sorted(recording.last.unseen))
    return (
        "<section id='completeness'><h2>How complete it is</h2><ul>"
        f"<li>Lost: {done.lost:,} faults, {done.lost_details:,} in details"
        f"{f' ({causes})' if causes else ''}.</li>"
        f"<li>Unclassified: {recording.last.unclassified:,} faults.</li>"
        + (f"<li>This plan cannot see: {unseen}.</li>" if unseen else "")
        + f"<li>{escape(ending(recording))}</li></ul></section>"
    )
