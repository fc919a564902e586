"""Render what -v adds: page-fault totals, rarer kinds, source and origin of each fault."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.analysis.processes import Frame
from cowtrace.model import FaultKind, FaultRow, Process, Source
from cowtrace.numbers import MISSING, count, size
from cowtrace.terminal.columns import grid, name


def details(frame: Frame) -> list[RenderableType]:
    """The two further tables, each after an empty line."""
    shown = [
        process
        for row in frame.rows[: frame.limit]
        if row.pid is not None and (process := frame.snapshot.process(row.pid))
    ]
    return [Text(), _totals(shown), Text(), _origins(shown)]


def _totals(processes: list[Process]) -> Table:
    """All page faults, copy-on-write or not, then the kinds that the main table leaves out."""
    table = grid(
        "FAULTS\n USER",
        "FAULTS\nKERNEL",
        "WRITE-\nPROTECT",
        "FILE-\nCOPIED",
        "UN-\nCHANGED",
        "\nFAILED",
        "UNCLAS-\nSIFIED",
    )
    for process in processes:
        faults = process.page_faults
        table.add_row(
            str(process.pid),
            name(process.comm, process.exited),
            count(faults.user if faults else None),
            count(faults.kernel if faults else None),
            count(faults.write_protect if faults else None),
            count(process.count(FaultKind.FILE_COPIED)),
            count(process.count(FaultKind.UNCHANGED)),
            count(process.count(FaultKind.FAILED)),
            count(process.count(FaultKind.UNCLASSIFIED)),
        )
    return table


def _origins(processes: list[Process]) -> Table:
    """Each sum as the kernel side keeps it; ACTOR is the process that made a remote write."""
    table = grid("KIND", "SOURCE", "ORIGIN", "ACTOR", "FAULTS", "BYTES")
    table.columns[2].width = len(" unclassified")
    for process in processes:
        for row in sorted(process.rows, key=_most_first):
            table.add_row(
                str(process.pid),
                name(process.comm, process.exited),
                row.kind.label,
                MISSING if row.source is Source.UNKNOWN else row.source.name.lower(),
                row.origin.name.lower(),
                MISSING if row.actor is None else str(row.actor),
                count(row.faults),
                size(row.bytes),
            )
    return table


def _most_first(row: FaultRow) -> tuple[int, int]:
    return (-row.faults, row.kind)
