"""What the fuzz tests share: how many cases, and what is hostile.

A short run by itself; `make fuzz` tries COWTRACE_FUZZ cases of each.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

CASES = int(os.environ.get("COWTRACE_FUZZ", "200"))
fuzzed = settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=CASES <= 1000,  # the short run is the same each time
    database=None,
)
hostile = st.text(st.characters(exclude_characters="\0", codec=None), max_size=20)
# What is meant for others: a terminal, rich, HTML, a shell, a spreadsheet, Prometheus, /proc.
SPELLS = (
    *("\x1b[31m", "\x9b2J", "\x1b]0;x\x07", "[red]x[/red]", "[/]", "[link=x]", "\\[b]"),
    *("<script>alert(1)</script>", "</script>", "<!--", "]]>", "&lt;", '" onload="x', "'"),
    *("$(id)", "`id`", "; id #", "=1+1", "+1", "@x", '",\n', '"}\n', "\\", "{{x}}", "%s", "{0}"),
    *(" (deleted)", "\n", "\r\n", "\t", " ", "\x85", "\u2028", "\u202e", "\u200b", "\ufeff"),
    *("\udcff", "\ud800", "\U000e0041", "é" * 9, "\0"),
)
spelled = st.lists(st.one_of(st.sampled_from(SPELLS), hostile), max_size=4).map("".join)
spelled_bytes = st.lists(
    st.one_of(
        st.sampled_from([spell.encode(errors="replace") for spell in SPELLS]),
        st.binary(max_size=20),
    ),
    max_size=4,
).map(b"".join)


@cache
def scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="cowtrace-fuzz-"))
