"""Run the long-lived commands, and see whether they live, answer, count right and stay small."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from command import COWTRACE, eventually

from cowtrace.libc import libc

REGION_START = 0x2000_0000_0000
HOSTILE = re.compile(r"PWNED|[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what no output may have
_NR_KCMP = 312 if os.uname().machine == "x86_64" else 272
_KCMP_VM = 1  # include/uapi/linux/kcmp.h
ENDS_SECONDS = 10.0  # after SIGTERM, on a machine that others keep busy as well


@dataclass(frozen=True, slots=True)
class Counted:
    """What a command says of the victim; None: it does not tell."""

    at_ns: int  # of the snapshot
    region: int | None
    copies: int | None
    lost: int
    stacks: Mapping[str, int] = field(default_factory=dict)  # copies by innermost function


class Command:
    """One long-lived command. `answers`: the time of its latest answer."""

    name: str
    arguments: tuple[str, ...]

    def __init__(self, out: Path, victim: int) -> None:
        self.out, self.victim = out, victim
        self.answered = 0.0
        self.denied_seconds = 0.0  # in which it could run, and had no CPU
        self._denied_at_answer = (0.0, 0.0)  # of denied_seconds: when it answered, how much
        self._waits: dict[int, float] = {}  # by process
        self.peak_mb = 0.0
        self.tree: set[int] = set()  # its process and all descendants, a moment ago
        self._errors = (out / f"{self.name}.stderr").open("wb+")
        self.process = subprocess.Popen(
            [*COWTRACE, *self.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
        self._line = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def counted(self) -> Counted | None:
        """The latest answer; None: none yet."""
        return self._of(json.loads(self._line)) if self._line else None

    def _of(self, said: dict[str, Any]) -> Counted:
        raise NotImplementedError

    def alive(self) -> bool:
        return self.process.poll() is None

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def silent_seconds(self) -> float:
        """Since its last answer, without the time in which other processes had the CPUs."""
        return time.monotonic() - self.answered - self.denied_seconds + self._denied_at_answer[1]

    def watch(self) -> None:
        """Note its memory and its waiting for a CPU, together with its children's."""
        self.tree = {self.process.pid, *_descendants(self.process.pid)}
        waits = {pid: _denied_seconds(pid) for pid in self.tree}
        self.denied_seconds += sum(waits[pid] - self._waits.get(pid, 0.0) for pid in waits)
        self._waits = waits
        if self.answered != self._denied_at_answer[0]:
            self._denied_at_answer = self.answered, self.denied_seconds
        if self.answered:
            own = self.process.pid
            others = (pid for pid in self.tree if pid != own and not _has_memory_of(pid, own))
            self.peak_mb = max(self.peak_mb, sum(map(_proportional_mb, (own, *others))))

    def end(self) -> list[str]:
        """End it by SIGTERM; returns what was wrong about that."""
        problems = []
        if self.alive():
            held = _programs(self.process.pid)
            self.process.terminate()
            try:
                code = self.process.wait(timeout=ENDS_SECONDS)
            except subprocess.TimeoutExpired:
                problems.append(f"{self.name} is deaf to SIGTERM for {ENDS_SECONDS:.0f} s")
                self.process.kill()
            else:
                if code:
                    problems.append(f"{self.name} ends with {code}: {self.errors()[-300:]!r}")
            self.process.wait()
            if left := eventually_gone(held):
                problems.append(f"{self.name} leaves BPF programs loaded: {left}")
            if events := _kprobe_events(self.process.pid):
                problems.append(f"{self.name} leaves kprobe events: {events}")
            if not self._tree_ends():
                problems.append(f"{self.name} leaves a process behind")
        if found := HOSTILE.search(self.errors().replace("\n", "")):
            problems.append(f"{self.name} writes {found[0]!r} to stderr")
        if "Traceback" in self.errors():
            problems.append(f"{self.name}: {self.errors().strip().splitlines()[-1]}")
        return problems

    def _tree_ends(self) -> bool:
        deadline = time.monotonic() + 3
        while any(Path(f"/proc/{pid}/exe").exists() for pid in self.tree):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._line, self.answered = line, time.monotonic()


class Top(Command):
    name, arguments = "top", ("top", "--json")

    def _of(self, said: dict[str, Any]) -> Counted:
        mine = [p for p in said["processes"] if p["pid"] == self.victim]
        return Counted(said["at_ns"], None, sum(p["copied"] for p in mine), said["lost"])


class Maps(Command):
    name, arguments = "maps", ("maps", "--json")

    def _of(self, said: dict[str, Any]) -> Counted:
        mine = [m for m in said["mappings"] if m["pid"] == self.victim]
        region = sum(m["copied"] for m in mine if m["start"] == REGION_START)
        lost = said["lost"] + (said["lost_details"] or 0)
        return Counted(said["at_ns"], region, sum(m["copied"] for m in mine), lost)


class Stacks(Command):
    name = "stacks"

    def __init__(self, out: Path, victim: int) -> None:
        self.arguments = ("stacks", "--json", "-p", str(victim))
        super().__init__(out, victim)

    def _of(self, said: dict[str, Any]) -> Counted:
        sums: dict[str, int] = {}
        for stack in said["stacks"]:
            # Without PWNED in its own file, it could only come from another one's.
            for frame in stack["frames"][:1]:
                sums[frame["function"]] = sums.get(frame["function"], 0) + stack["faults"]
        return Counted(said["at_ns"], None, None, said["lost"], sums)


class Record(Command):
    name = "record"

    def __init__(self, out: Path, victim: int) -> None:
        self.file = out / f"{time.monotonic_ns()}.cow"
        self.arguments = ("record", "-o", str(self.file))
        super().__init__(out, victim)
        self._intervals = 0

    def watch(self) -> None:
        super().watch()
        with contextlib.suppress(sqlite3.Error), self._database() as database:
            (count,) = database.execute("SELECT max(id) FROM interval").fetchone()
            if (count or 0) > self._intervals:
                self._intervals, self.answered = count, time.monotonic()

    def counted(self) -> Counted | None:
        if not self._intervals:
            return None
        with self._database() as database:
            database.execute("BEGIN")
            at_ns, lost = database.execute(
                "SELECT at_ns, (SELECT coalesce(sum(count), 0) FROM loss)"
                " FROM interval ORDER BY id DESC LIMIT 1"
            ).fetchone()
            (region,) = database.execute(
                "SELECT sum(faults) FROM detail JOIN mapping ON mapping.id = detail.mapping"
                " WHERE sampled = 0 AND pid = ? AND start = ? AND kind = 'copied'",
                (self.victim, REGION_START),
            ).fetchone()
            (copies,) = database.execute(
                "SELECT sum(fault.faults) FROM fault JOIN series ON series.id = fault.series"
                " JOIN process ON process.id = series.process"
                " WHERE process.pid = ? AND kind = 'copied'",
                (self.victim,),
            ).fetchone()
        return Counted(at_ns, region or 0, copies or 0, lost)

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(f"file:{self.file}?mode=ro", uri=True, timeout=5)
        try:
            yield database
        finally:
            database.close()


class Exporter(Command):
    name = "export"
    arguments = ("export", "prometheus", "--listen", "127.0.0.1:0", "--interval", "1")

    def __init__(self, out: Path, victim: int) -> None:
        super().__init__(out, victim)
        self.slowest_seconds = 0.0
        self.refused = 0
        self._page = ""
        self._asked = 0.0

    @property
    def port(self) -> int:
        found = re.search(r"://127\.0\.0\.1:(\d+)/", self.errors())
        return int(found[1]) if found else 0

    def watch(self) -> None:
        super().watch()
        if self.port and time.monotonic() > self._asked + 1:
            self._asked = time.monotonic()
            try:
                address = f"http://127.0.0.1:{self.port}/metrics"
                with urllib.request.urlopen(address, timeout=5) as answer:
                    self._page = answer.read().decode()
            except OSError:
                self.refused += 1
                return
            finally:
                took = time.monotonic() - self._asked
                self.slowest_seconds = max(self.slowest_seconds, took)
            self.answered = time.monotonic()

    def counted(self) -> Counted | None:
        """Of all processes of the victim's name: it lost its label if it counts less."""
        if not self._page:
            return None
        copies = lost = 0.0
        for line in self._page.splitlines():
            if line.startswith("cowtrace_faults_total{") and 'comm="cow-victim"' in line:
                copies += float(line.rsplit(" ", 1)[1]) if 'kind="copied"' in line else 0
            elif line.startswith("cowtrace_lost_faults_total "):
                lost = float(line.rsplit(" ", 1)[1])
        # Its snapshot is older than the scrape by up to its interval.
        return Counted(int((self._asked - 1.5) * 1e9), None, int(copies), int(lost))


COMMANDS: tuple[type[Command], ...] = (Record, Stacks, Top, Exporter, Maps)


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in _entries(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                found |= {int(child), *_descendants(int(child))}
    return found


def _has_memory_of(child: int, parent: int) -> bool:
    """Between vfork() and execve(): the memory of both is one, and is not to be counted twice."""
    return bool(libc().syscall(_NR_KCMP, child, parent, _KCMP_VM, 0, 0) == 0)


def _denied_seconds(pid: int) -> float:
    """For how long its main thread could run and did not, because others had the CPUs."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def _proportional_mb(pid: int) -> float:
    """Its memory, of pages that are mapped more than once a part: sums count none twice."""
    with contextlib.suppress(OSError, IndexError):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(rollup.partition("\nPss:")[2].split()[0]) * 1024 / 1e6
    return 0.0


def _entries(folder: str) -> list[Path]:
    with contextlib.suppress(OSError):
        return [*Path(folder).iterdir()]
    return []


def _programs(pid: int) -> set[int]:
    found = set()
    for info in _entries(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(OSError):
            found |= {
                int(number) for number in re.findall(r"^prog_id:\t(\d+)", info.read_text(), re.M)
            }
    return found


def eventually_gone(programs: set[int]) -> set[int]:
    """Those that are still loaded: the kernel frees one a grace period after its last user."""

    def left() -> set[int]:
        from command import programs as loaded

        return programs & set(loaded())

    eventually(lambda: not left())
    return left()


def _kprobe_events(pid: int) -> list[str]:
    events = Path("/sys/kernel/tracing/kprobe_events")
    lines = events.read_text().splitlines() if events.exists() else []
    return [line for line in lines if re.search(rf"_bcc_{pid}\b", line)]


def end_now(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    process.wait()
