"""machine/objects.py: nothing of a snapshot is lost in its line."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from snapshots import process, row, snapshot

from cowtrace.machine import objects, schema
from cowtrace.model import (
    Completeness,
    FaultKind,
    FaultRow,
    Origin,
    PageFaults,
    Process,
    Snapshot,
    Source,
)

KINDS = {kind.name.lower(): kind for kind in FaultKind}


def line(now: Snapshot, before: Snapshot | None = None) -> dict[str, Any]:
    stream = io.StringIO()
    objects.write(stream, now, before)
    assert stream.getvalue().endswith("}\n")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().isascii()
    fields: dict[str, Any] = json.loads(stream.getvalue())
    return fields


def back(fields: dict[str, Any]) -> Snapshot:
    """The snapshot that a line was made of."""
    unseen = frozenset(KINDS[name] for name in fields["unseen"])
    return Snapshot(
        fields["at_ns"],
        fields["attached_ns"],
        fields["plan"],
        fields["kernel"],
        fields["page_bytes"],
        tuple(
            Process(
                p["pid"],
                p["comm"],
                p["parent"],
                p["exited"],
                p["page_faults"] and PageFaults(**p["page_faults"]),
                tuple(
                    FaultRow(
                        KINDS[r["kind"]],
                        Source[(r["source"] or "unknown").upper()],
                        Origin[r["origin"].upper()],
                        r["actor"],
                        r["faults"],
                        r["bytes"],
                    )
                    for r in p["rows"]
                ),
                unseen,
            )
            for p in fields["processes"]
        ),
        Completeness(
            fields["lost"],
            tuple(fields["lost_by_cause"].items()),
        ),
        unseen,
    )


numbers = st.integers(0, 2**64 - 1)
fault_rows = st.builds(
    FaultRow,
    kind=st.sampled_from(FaultKind),
    source=st.sampled_from(Source),
    origin=st.sampled_from(Origin),
    actor=st.none() | st.integers(1, 4_194_304),
    faults=numbers,
    bytes=numbers,
)


@given(
    st.frozensets(st.sampled_from(FaultKind)),
    st.lists(
        st.tuples(
            st.text(max_size=15),
            st.none() | st.integers(1, 9),
            st.booleans(),
            st.none() | st.builds(PageFaults, numbers, numbers, numbers),
            st.lists(fault_rows, max_size=3),
        ),
        max_size=3,
    ),
)
def test_round_trip(
    unseen: frozenset[FaultKind],
    made: list[tuple[str, int | None, bool, PageFaults | None, list[FaultRow]]],
) -> None:
    processes = [
        Process(pid, comm, parent, exited, faults, tuple(each), unseen)
        for pid, (comm, parent, exited, faults, each) in enumerate(made, start=1)
    ]
    now = snapshot(*processes, unseen=unseen, completeness=Completeness(1, (("return missed", 1),)))
    assert back(line(now)) == now


def test_fields() -> None:
    unseen = frozenset({FaultKind.SHARED})
    before = snapshot(process(23, "a\n", row(FaultKind.COPIED, 5)), at=1.0)
    one = process(23, "a\n", row(FaultKind.COPIED, 7), parent=1, exited=True, unseen=unseen)
    now = snapshot(one, at=2.0, unseen=unseen)
    assert line(now, before) == {
        "at_ns": 9_000_000_000,
        "attached_ns": 7_000_000_000,
        "plan": "kprobe",
        "kernel": "6.12.43+deb13-cloud-amd64",
        "page_bytes": 4096,
        "unseen": ["shared"],
        "lost": 0,
        "lost_details": 0,
        "lost_by_cause": {},
        "in_system_calls_at_most": None,
        "unclassified": 0,
        "processes": [
            {
                "pid": 23,
                "comm": "a\n",
                "parent": 1,
                "exited": True,
                "nspid": None,
                "cgroup": None,
                "faults": 7,
                "copied": 7,
                "file_copied": 0,
                "zero_filled": 0,
                "reused": 0,
                "shared": None,
                "unchanged": 0,
                "failed": 0,
                "unclassified": 0,
                "copied_bytes": 28672,
                "copied_bytes_per_second": 8192.0,
                "page_faults": None,
                "rows": [
                    {
                        "kind": "copied",
                        "source": "anon",
                        "origin": "user",
                        "actor": None,
                        "faults": 7,
                        "bytes": 28672,
                    }
                ],
            }
        ],
    }


def test_every_field_is_in_the_schema() -> None:
    fields = line(
        snapshot(process(1, "a", row(FaultKind.COPIED, 1), page_faults=PageFaults(1, 2, 3)))
    )
    (one,) = fields["processes"]
    names = {*fields, *one, *one["page_faults"], *one["rows"][0]}
    described = json.dumps(schema.of("top")["$defs"])
    assert {name for name in names if f'"{name}": {{' not in described} == set()


def test_each_line_is_flushed() -> None:
    class Stream(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    stream = Stream()
    objects.write(stream, snapshot())
    objects.write(stream, snapshot())
    assert stream.flushed == 2


def test_lost_is_what_is_counted_as_lost_and_not_the_number_of_causes() -> None:
    lossy = Completeness(0, (("pid reused", 5), ("samples dropped", 7), ("stacks full", 2)))
    assert line(snapshot(completeness=lossy))["lost"] == 0
    assert line(snapshot(completeness=lossy))["lost_details"] == 9
    assert line(snapshot(completeness=Completeness(23, (("slot taken", 23),))))["lost"] == 23


def test_what_the_tracepoint_plan_does_not_see_is_bounded_and_missing_for_others() -> None:
    outside = Completeness(0, (("outside faults", 5), ("zeroed outside faults", 7)))
    now = snapshot(completeness=outside)
    assert line(now)["in_system_calls_at_most"] is None
    found = line(replace(now, plan="tracepoint"))
    assert found["in_system_calls_at_most"] == {"copied": 5, "zero_filled": 7}
    assert found["lost_by_cause"] == {}


def test_a_rate_is_that_of_the_process_and_not_of_its_pid() -> None:
    before = snapshot(process(1, "a", row(FaultKind.COPIED, 5), start_ns=1), at=1.0)
    now = snapshot(
        process(1, "a", row(FaultKind.COPIED, 5), start_ns=1, exited=True),
        process(1, "b", row(FaultKind.COPIED, 7), start_ns=2),
        at=2.0,
    )
    rates = [each["copied_bytes_per_second"] for each in line(now, before)["processes"]]
    assert rates == [0, 7 * 4096]
