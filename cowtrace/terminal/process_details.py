"""Render what -v adds: page-fault totals, rarer kinds, source and origin of each fault."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from cowtrace.analysis.processes import Frame
from cowtrace.model import FaultKind, FaultRow, Process
from cowtrace.numbers import MISSING, count, size
from cowtrace.terminal.columns import Column, pid_and_name, source_name, table


def details(frame: Frame) -> list[RenderableType]:
    """Two tables, each after an empty line.

    The first has all page faults, copy-on-write or not, and the kinds that the main table leaves
    out; the second has each sum as the kernel side keeps it.
    """
    shown = [
        process
        for row in frame.rows[: frame.limit]
        if row.pid is not None and (process := frame.snapshot.process(row.pid))
    ]
    sums = [
        (process, row)
        for process in shown
        for row in sorted(process.rows, key=lambda row: (-row.faults, row.kind))
    ]
    return [Text(), table(_TOTALS, shown), Text(), table(_ORIGINS, sums)]


_TOTALS: tuple[Column[Process], ...] = (
    *pid_and_name(lambda process: process),
    Column("FAULTS\n USER", lambda p, _: count(p.page_faults.user if p.page_faults else None)),
    Column("FAULTS\nKERNEL", lambda p, _: count(p.page_faults.kernel if p.page_faults else None)),
    Column(
        "WRITE-\nPROTECT",
        lambda p, _: count(p.page_faults.write_protect if p.page_faults else None),
    ),
    Column("FILE-\nCOPIED", lambda p, _: count(p.count(FaultKind.FILE_COPIED))),
    Column("UN-\nCHANGED", lambda p, _: count(p.count(FaultKind.UNCHANGED))),
    Column("\nFAILED", lambda p, _: count(p.count(FaultKind.FAILED))),
    Column("UNCLAS-\nSIFIED", lambda p, _: count(p.count(FaultKind.UNCLASSIFIED))),
)
_ORIGINS: tuple[Column[tuple[Process, FaultRow]], ...] = (
    *pid_and_name(lambda pair: pair[0]),
    Column("KIND", lambda pair, _: pair[1].kind.label, 13),
    Column("SOURCE", lambda pair, _: source_name(pair[1].source)),
    Column("ORIGIN", lambda pair, _: pair[1].origin.name.lower()),
    # the process that made a remote write
    Column("ACTOR", lambda pair, _: MISSING if pair[1].actor is None else str(pair[1].actor)),
    Column("FAULTS", lambda pair, _: count(pair[1].faults)),
    Column("BYTES", lambda pair, _: size(pair[1].bytes)),
)
