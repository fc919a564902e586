"""Write the rows of a JSON object as CSV, for a spreadsheet.

The columns are the fields of a row, named as in --json, after four fields of the whole object:
`now_ns` (its `at_ns`), `lost`, `lost_details`, `unclassified`. A missing value is empty, never 0. A
list or an object is JSON. Characters that act on a terminal are escaped, so that a row is a line. A
text that a spreadsheet would read as a formula gets an apostrophe before it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from cowtrace.text import printable

_HEAD = {"now_ns": "at_ns"} | {name: name for name in ("lost", "lost_details", "unclassified")}
_FORMULA = (*"=+-@", *"\uff1d\uff0b\uff0d\uff20")  # and their wide forms
_LEFT_OUT = {"rows"}  # lists that would need a table of their own


class CsvLines:
    """Writes a header before the first row; all rows have the fields of that one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._writer: csv.DictWriter[str] | None = None

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows and flush them, so that a reader sees each interval at once."""
        for row in rows:
            cells = {name: _cell(value) for name, value in row.items() if name not in _LEFT_OUT}
            if self._writer is None:
                self._writer = csv.DictWriter(self._stream, [*cells], lineterminator="\n")
                self._writer.writeheader()
            self._writer.writerow(cells)
        self._stream.flush()

    def snapshot(self, fields: Mapping[str, Any], field: str) -> None:
        """Write the rows of a list in an object, each after fields of the whole object."""
        head = {column: fields[name] for column, name in _HEAD.items()}
        self.write({**head, **row} for row in fields[field])

    def answers(self, questions: Iterable[Mapping[str, Any]]) -> None:
        """Write the measures of a report or a comparison, each after its question."""
        self.write(
            {"number": each["number"], "question": each["question"], **measure}
            for each in questions
            for measure in each["measures"]
        )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | dict):
        return json.dumps(value)
    if isinstance(value, str):
        shown = printable(value)
        return f"'{shown}" if shown.startswith(_FORMULA) else shown
    return str(value)
