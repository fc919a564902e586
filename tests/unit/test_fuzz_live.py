"""Anything at all, from a live kernel: records of the maps and rings, /proc, dumps of stacks.

What the kernel side writes is its own (kinds, sources, origins); names, addresses, registers and
stacks are a traced process's.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fuzzing import SPELLS, fuzzed, hostile, scratch, spelled, spelled_bytes
from hypothesis import given
from hypothesis import strategies as st
from snapshots import calls, detail, process, snapshot
from symbolizing import open_by_path, traced

from cowtrace import proc as procfs
from cowtrace.analysis.forks import fork_rows
from cowtrace.analysis.mappings import mapping_rows
from cowtrace.analysis.processes import Frame, rows
from cowtrace.analysis.stacks import stack_tree
from cowtrace.cli import cgroups
from cowtrace.errors import CowtraceError
from cowtrace.html.flame_data import as_json, flame_data
from cowtrace.kernel.plan import PLAN_NAMES, ProbePlan
from cowtrace.machine import detail_objects as detaillines
from cowtrace.machine import objects as jsonlines
from cowtrace.machine.csv import CsvLines
from cowtrace.machine.stacks import write_folded, write_speedscope
from cowtrace.model import (
    FaultKind,
    MappingType,
    Origin,
    Place,
    Snapshot,
    Source,
    Stack,
    StackFrame,
)
from cowtrace.prometheus.metrics import Metrics
from cowtrace.symbolizer import unwind
from cowtrace.symbolizer.libdw import libdw
from cowtrace.terminal import forks, mappings, processes, stacks
from cowtrace.terminal.events import EventLines
from cowtrace.terminal.screen import PlainScreen
from cowtrace.tracer import abi, bpf_maps
from cowtrace.tracer.details import DetailLedger
from cowtrace.tracer.events import Events
from cowtrace.tracer.ledger import Ledger
from cowtrace.tracer.rounds import Details, Round
from cowtrace.tracer.stack_symbols import Symbols
from cowtrace.workloads.oracles.proc_files import smaps_sizes

PAGE = 4096
u8, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 32, 64))
PLACE = Place(1, "".join(SPELLS))
pids = st.integers(1, 9)
few = st.integers(0, 9)
kinds, sources, origins = (
    st.sampled_from([int(member) for member in enum]) for enum in (FaultKind, Source, Origin)
)
counts = st.one_of(few, st.integers(0, 2**40), st.integers(2**64 - 9, 2**64 - 1))  # taken back


@st.composite
def records(draw: Any, form: Any, *fields: Any, most: int = 3) -> list[tuple[Any, ...]]:
    """Bytes as a map has them, read as the tracer reads them."""
    raw = b"".join(
        form.pack(*(draw(field) for field in fields)) for _ in range(draw(st.integers(0, most)))
    )
    return [*form.iter_unpack(raw)]


rounds = st.fixed_dictionaries(
    {
        "sums": records(abi.FAULT_KEY, pids, few, kinds, sources, origins, st.just(0)),
        "sum": st.lists(st.tuples(counts, counts), min_size=3, max_size=3),
        "processes": records(abi.PROCESS, few, st.integers(0, 1), u64, few, few, spelled_bytes),
        "pids": st.lists(pids, min_size=3, max_size=3),
        "details": records(
            abi.DETAIL_KEY, few, few, few, pids, few, kinds, sources, origins, st.just(0),
            st.integers(0, 64), st.integers(0, 8),
        ),
        "ns": st.lists(counts, min_size=3, max_size=3),
        "mappings": records(
            abi.MAPPING, u64, u64, u64, u32, st.sampled_from([int(t) for t in MappingType]),
            spelled_bytes,
        ),
        "generations": records(abi.GENERATION, pids, pids, u64, u64, u64, few, u32, *[u64] * 6),
    }
)  # fmt: skip


def counted(made: dict[str, Any]) -> Round:
    details = Details(
        sums={
            key: abi.DetailSum(each[0], each[1], ns)
            for key, each, ns in zip(made["details"], made["sum"], made["ns"], strict=False)
        }.items(),
        mappings={
            abi.MappingKey(number, pid): each
            for number, (pid, each) in enumerate(zip(made["pids"], made["mappings"], strict=False))
        },
        generations=dict(enumerate(made["generations"], 1)),
    )
    return Round(
        at_ns=1 << 40,
        end_ns=(1 << 40, 1 << 41),
        half=0,
        sums={
            key: abi.FaultSum(*each) for key, each in zip(made["sums"], made["sum"], strict=False)
        },
        page_faults=None,
        processes=dict(zip(made["pids"], made["processes"], strict=False)),
        details=details,
    )


class Named:
    """A symbolizer that knows a few names."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def new_round(self) -> None: ...

    def kernel_stack(self, addresses: tuple[int, ...]) -> Stack:
        return tuple(StackFrame(self._names[at % len(self._names)], "", at) for at in addresses)

    def user_stack(self, addresses: tuple[int, ...], family: object, living: object) -> Stack:
        return self.kernel_stack(addresses)


@fuzzed
@given(
    st.lists(rounds, min_size=1, max_size=2),
    st.sampled_from(PLAN_NAMES),
    st.lists(spelled, min_size=1, max_size=4),
    st.integers(0, 3),
)
def test_what_the_maps_hold(
    made: list[dict[str, Any]], plan: str, names: list[str], table: int
) -> None:
    """Records -> ledgers -> snapshot -> every view and every format of it."""
    live = ProbePlan(plan, (), {}, frozenset(), ())  # type: ignore[arg-type]
    ledger = Ledger(live)
    symbols = Symbols(lambda number: (number, number + 1), Named(names))  # type: ignore[arg-type]
    details = DetailLedger(PAGE, symbols.stack)
    before = shown = None
    for raw in map(counted, made):
        details.add(raw)
        ledger.add(raw)
        before, shown = shown, snapshot_of(ledger, details)
        assert all(p.faults == sum(row.faults for row in p.rows) for p in shown.processes)
    assert shown
    every_view(shown, before, table)


def snapshot_of(ledger: Ledger, details: DetailLedger) -> Snapshot:
    made = snapshot(*ledger.processes(), at=1)
    fields = {name: getattr(made, name) for name in made.__dataclass_fields__}
    rows_ = details.rows()
    told = {"details": rows_, "samples": rows_, "generations": details.generations.all()}
    return Snapshot(**(fields | told))


def every_view(now: Snapshot, before: Snapshot | None, table: int) -> None:
    screen = io.StringIO()
    found, forked, mapped = rows(now, before), fork_rows([now], before), mapping_rows(now, before)
    tree = stack_tree(now, now.samples)
    here = {process.pid: PLACE for process in now.processes}
    drawn = (
        processes.view(Frame(now, found, len(now.processes), verbose=True, places=here)),
        forks.view(now, forked, 50, here),
        mappings.view(now, mapped, 50, here, one=False, addresses=False),
        stacks.view(now, tree, 50, sampled=True),
    )
    with PlainScreen(screen) as shown:
        shown.show(drawn[table])  # one a case: it is what takes longest
    safe(screen.getvalue())
    objects = io.StringIO()
    jsonlines.write(objects, now, before)
    for answer in (
        detaillines.generations(forked),
        detaillines.mappings(mapped),
        detaillines.stacks(now.details, False),
    ):
        objects.write(json.dumps(jsonlines.head(now) | answer) + "\n")
    for line in objects.getvalue().split("\n")[:-1]:
        json.loads(line)
    sheet = io.StringIO()
    CsvLines(sheet).snapshot(jsonlines.as_object(now, before), "processes")
    safe(sheet.getvalue())
    for cells in csv.reader(sheet.getvalue().split("\n")):
        assert not [cell for cell in cells if cell.startswith(tuple("=+@"))]
    folds = io.StringIO()
    write_folded(folds, tree)
    assert all(re.fullmatch(r".+ \d+", line) for line in folds.getvalue().split("\n")[:-1])
    safe(folds.getvalue())
    write_speedscope(io.StringIO(), tree, "x")
    metrics = Metrics(procfs.Places(lambda pid: PLACE), 3)
    metrics.add(now)
    for family in metrics.collect():
        for sample in family.samples:
            safe("".join(sample.labels.values()))


def safe(text: str) -> None:
    text.encode()  # no lone surrogates
    for character in text:
        assert character == "\n" or character.isprintable(), ascii(character)


class Tags(HTMLParser):
    """Names of the elements that a browser would make."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.add(tag)


@fuzzed
@given(spelled, spelled, spelled)
def test_a_flame_graph_of_any_names(comm: str, symbol: str, module: str) -> None:
    now = snapshot(process(1, comm))
    stack = calls(symbol, "main", module=module)
    data = as_json(flame_data(stack_tree(now, (detail(1, user_stack=stack),))))
    assert not set("<>&\u2028\u2029") & set(data)
    for name in [call[0] for call in json.loads(data)["calls"]] + json.loads(data)["modules"]:
        safe(name)
    tags = Tags()
    tags.feed(f"<script type='application/json'>{data}</script>")
    assert tags.found == {"script"}


@fuzzed
@given(
    st.lists(
        st.tuples(st.integers(0, 2**60), u64, u64, u64, u64, u32, st.integers(1, 3),
                  kinds, sources, origins, st.integers(0, 1), spelled_bytes),
        max_size=6,
    ),
    spelled_bytes,
)  # fmt: skip
def test_single_faults(made: list[tuple[Any, ...]], name: bytes) -> None:
    events = Events.__new__(Events)
    mapping = maps_name(name)
    events._mapping, events._undecided = lambda pid, start: mapping, {}
    events._exact = True
    given_out = [event for each in made for event in events._settle(abi.EVENT.pack(*each))]
    assert len(given_out) + len(events._undecided) <= len(made)
    for lines in (EventLines(), EventLines(wide=True)):
        for event in given_out:
            safe(lines.line(event))
            json.loads(json.dumps(detaillines.event_object(event)))


def maps_name(name: bytes) -> Any:
    from cowtrace.tracer.details import as_mapping

    return as_mapping(1, 1, abi.Mapping(2, 3, 4, 5, int(MappingType.ANON), name[:64]))


@fuzzed
@given(st.binary(max_size=200), st.integers(1, 4))
def test_the_sum_of_all_cpus(raw: bytes, cpus: int) -> None:
    value = abi.PAGE_FAULT_SUM
    whole = raw.ljust(cpus * value.size, b"\xff")[: cpus * value.size]
    summed = bpf_maps.sum_cpus(whole, value)
    columns = [*zip(*value.iter_unpack(whole), strict=True)]
    assert summed == tuple(sum(column) % 2**64 for column in columns)


@functools.cache
def own_code() -> tuple[int, ...]:
    """Starts of what is mapped executable here."""
    lines = Path("/proc/self/maps").read_text(errors="replace").split("\n")
    return tuple(int(line.split("-")[0], 16) for line in lines if " r-xp " in line)


@functools.cache
def unwinder() -> unwind.Unwinder:
    return unwind.Unwinder(traced(os.getpid()))


@fuzzed
@given(st.data())
def test_a_dump_of_any_stack(data: st.DataObject) -> None:
    """Registers and stack are the traced process's; its tables are this one's files."""
    try:
        libdw()
    except CowtraceError as error:
        pytest.skip(str(error))
    code = st.builds(
        lambda start, offset: start + offset,
        st.sampled_from(own_code()),
        st.integers(0, 1 << 16),
    )
    stack_at = 0x7000_0000_0000
    words = st.one_of(code, u64, st.integers(stack_at, stack_at + 512))
    stack = data.draw(st.lists(words, max_size=24))
    regs = [data.draw(words) for _ in range(17)]
    regs[7] = stack_at + data.draw(st.integers(0, 64))
    regs[16] = data.draw(code)
    dump = unwind.Dump(tuple(regs), b"".join(word.to_bytes(8, "little") for word in stack))
    trampoline = data.draw(st.booleans())
    found = unwinder().addresses(dump, lambda address: trampoline, open_by_path)
    assert found[0] == regs[16]
    assert 1 <= len(found) <= 128
    assert all(0 <= address < 2**64 for address in found)


@st.composite
def listings(draw: Any, *known: bytes) -> bytes:
    """Lines as a file of /proc has them, and others, in any order."""
    lines = st.one_of(st.sampled_from(known), spelled_bytes, st.binary(max_size=30))
    return b"\n".join(draw(st.lists(lines, max_size=8)))


def put(name: str, content: bytes) -> Path:
    path = scratch() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


@fuzzed
@given(
    listings(
        b"1000-3000 rw-p 00000000 00:00 0 [heap]",
        b"2000-2800 rw-p 00000000 08:01 5 /a b (deleted)",
        b"1000-", b"-", b"Private_Dirty:         12 kB", b"AnonHugePages:  4 kB", b"x: kB",
        b"VmFlags: rd wr", b"Size: -4 kB", b"", b"zz-yy rw-p",
    )
)  # fmt: skip
def test_smaps(content: bytes) -> None:
    sizes = smaps_sizes(0x1000, 0x2000, put("smaps", content))
    assert all(size >= 0 and size % 1024 == 0 for size in sizes.values())


@fuzzed
@given(spelled_bytes, spelled_bytes, st.integers(1, 2**22))
def test_the_status_and_name_of_a_process(comm: bytes, rest: bytes, pid: int) -> None:
    """The kernel writes a newline and a backslash of Name as escapes, all other bytes as is."""
    name = comm[:15].split(b"\0")[0]
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    status = b"Name:\t%s\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t%d\nPid:\t%d\n" % (
        escaped, pid, pid,
    )  # fmt: skip
    put(f"{pid % 7}/status", status + rest.replace(b"\nTgid:", b""))
    put(f"{pid % 7}/comm", name + b"\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(procfs, "_PROC", scratch())
        if pid < 7:
            assert procfs.comm(pid) == name.decode(errors="backslashreplace")
        else:
            with pytest.raises(CowtraceError, match=f"a thread of process {pid}"):
                procfs.comm(pid % 7)
        assert procfs.runs(pid % 7) is (b"\nState:\tZ" not in status + rest)


@fuzzed
@given(
    listings(b"MemAvailable:    123 kB", b"MemAvailable: x kB", b"MemTotal: 9 kB", b"MemAvailable:")
)
def test_meminfo(content: bytes) -> None:
    put("meminfo", content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(procfs, "_PROC", scratch())
        found = procfs.available_bytes()
    assert found is None or (found >= 0 and found % 1024 == 0)


@fuzzed
@given(
    listings(
        b"0::/user.slice/a b", b"0::/x (deleted)", b"1:name=systemd:/", b"4:memory:/m", b"0::"
    ),
    listings(b"Name:\tx", b"NSpid:\t7\t1", b"NSpid:", b"NSpid:\tx", b"NSpid:\t-1"),
)
def test_where_a_process_runs(cgroup: bytes, status: bytes) -> None:
    put("7/cgroup", cgroup)
    put("7/status", status)
    found = procfs.read_place(7, scratch())
    assert found is not None
    assert found.nspid is None or found.nspid >= 0
    if cgroup == b"0::/user.slice/a b":
        assert found.cgroup == "/user.slice/a b"
    (found.cgroup or "").encode()


@fuzzed
@given(st.lists(hostile.filter(lambda name: "/" not in name), max_size=3))
def test_where_cgroups_are_mounted(parts: list[str]) -> None:
    """What the kernel escapes is what is read: fs/seq_file.c, mangle_path()."""
    at = "/" + "/".join(part for part in parts if part not in ("", ".", ".."))
    mangled = re.sub(r"[ \t\n\\]", lambda found: f"\\{ord(found[0]):03o}", at)
    line = f"36 35 0:30 / {mangled} rw,relatime shared:9 - cgroup2 none rw"
    assert cgroups._roots(f"1 2 3\n{line}\n") == [Path(at)]
