"""Run attacks beside the commands and their victim; find what went wrong."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from command import eventually

import cowtrace
from attack.attacker import PROGRAMS, SOURCES, Attacker, compiled
from attack.catalogue import Attack, Place
from attack.commands import COMMANDS, HOSTILE, Command, Counted, Exporter, Stacks, end_now
from attack.file_events import FileEvents
from cowtrace import cache

PAGES = 509
SILENT_SECONDS = 6.0  # without an answer, while it has a CPU: "at least every few seconds"
SCRAPE_SECONDS = 1.0
MOST_MB = 120.0
COMPARED_SECONDS = 15.0  # until each command has answered after the victim's pause


class Truth(ctypes.Structure):
    """struct truth of victim.c"""

    _fields_ = tuple(
        (name, ctypes.c_uint64) for name in ("region", "copies", "late", "pause", "paused")
    )
    region: int
    copies: int
    late: int
    pause: int
    paused: int

    def sums(self) -> tuple[int, int, int]:
        return self.region, self.copies, self.late


@dataclass(slots=True)
class Result:
    """What was seen while some attacks ran."""

    attacks: str
    seconds: float
    problems: list[str] = field(default_factory=list)
    peak_mb: dict[str, float] = field(default_factory=dict)
    slowest_scrape: float = 0.0
    copies: int = 0
    named: float | None = None  # the share of the victim's sampled copies that have its function


class Session:
    """The victim, the commands, an attacker. A context manager."""

    def __init__(self, folder: Path, *, patience: float = 1.0) -> None:
        """`patience`: how many times as long an answer may take, where others keep CPUs busy."""
        self.folder = folder
        self._silent_seconds = SILENT_SECONDS * patience
        self._scrape_seconds = SCRAPE_SECONDS * patience
        self._compared_seconds = COMPARED_SECONDS * patience
        self._most_mb = MOST_MB * min(patience, 2.0)  # what comes late piles up
        self.out, self.bin, self.secret = (folder / name for name in ("out", "bin", "secret"))
        self._stack = ExitStack()
        self._commands: list[Command] = []
        self._base: dict[str, tuple[int, int, int]] = {}  # the truth when a command was attached
        self._lost: dict[str, int] = {}

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _begin(self) -> None:
        for path, mode in ((self.out, 0o700), (self.bin, 0o755), (self.secret, 0o700)):
            path.mkdir(mode=mode)
        self.folder.chmod(0o755)
        self.canary = self.secret / "canary"
        self.canary.write_text("only root may read this\n")
        for program in (*PROGRAMS, "victim"):
            compiled(program, self.bin)
        shutil.copy(SOURCES / "clients.py", self.bin)
        (self.bin / "victim").rename(self.bin / "cow-victim")
        self.attacker = self._stack.enter_context(Attacker(self.bin))
        self._files = FileEvents(
            [self.canary, Path("/etc/shadow")],
            [self.out, cache.folder(), Path(cowtrace.__file__).parent],
        )
        self._stack.callback(self._files.close)
        self._start_victim()
        self._pause()
        self.start(COMMANDS)

    def __exit__(self, *_: object) -> None:
        for command in self._commands:
            end_now(command.process)
        self._stack.close()

    def start(self, kinds: Sequence[type[Command]]) -> None:
        """While the victim is paused. Waits for their first answers."""
        new: list[Command] = []
        for kind in kinds:  # each is kept at once: a signal may end this
            new.append(kind(self.out, self.victim))
            self._commands.append(new[-1])

        def ready() -> bool:
            for command in new:
                command.watch()
                assert command.alive(), f"{command.name}: {command.errors()}"
            return all(command.answered for command in new)

        assert eventually(ready), [c.name for c in new if not c.answered]
        for command in new:
            self._base[command.name] = self._truth.sums()
            self._lost[command.name] = 0

    def run(self, attacks: Sequence[Attack], seconds: float) -> Result:
        """Run all of these at once, for this time and as long as comparing takes."""
        result = Result(" + ".join(attack.name for attack in attacks), seconds)
        for command in self._commands:
            command.peak_mb = 0.0
            if isinstance(command, Exporter):
                command.slowest_seconds = 0.0
                command.refused = 0
        started = [(attack, self._launch(attack)) for attack in attacks]
        for command in self._commands:  # making the attack's files may take seconds
            command.answered = time.monotonic()
        begun = time.monotonic()
        self._truth.pause = 0
        failed: set[Command] = set()
        while time.monotonic() < begun + seconds:
            failed |= self._watch(result, failed)
            time.sleep(0.2)
        for attack, process in started:
            if process.poll() not in (None, 0):
                result.problems.append(
                    f"the attack itself ended with {process.returncode}: {attack.name}"
                )
        failed |= self._compare(result, failed)
        result.seconds = time.monotonic() - begun
        self.attacker.end_all()
        self._restart(failed, result)
        return result

    def end(self) -> Result:
        """End all commands by SIGTERM."""
        begun = time.monotonic()
        result = Result("the end of all commands", 0)
        for command in self._commands:
            result.problems += command.end()
        result.problems += self._files.problems(self._is_ours)
        result.seconds = time.monotonic() - begun
        self._commands.clear()
        return result

    def _start_victim(self) -> None:
        file = Path("/dev/shm") / f"cowtrace-attack-{os.getpid()}"
        self._stack.callback(file.unlink)
        with file.open("wb+") as truth:
            truth.truncate(mmap.PAGESIZE)
            self._memory = mmap.mmap(truth.fileno(), mmap.PAGESIZE)
        self._truth = Truth.from_buffer(self._memory)
        process = subprocess.Popen([str(self.bin / "cow-victim"), str(file), str(PAGES)])
        self._stack.callback(end_now, process)
        self.victim = process.pid

    def _pause(self) -> None:
        self._truth.pause = 1
        assert eventually(lambda: self._truth.paused), "the victim does not run"

    def _launch(self, attack: Attack) -> subprocess.Popen[bytes]:
        place = self.folder / f"attack{time.monotonic_ns()}"
        place.mkdir()
        port = next((c.port for c in self._commands if isinstance(c, Exporter)), 0)
        command = attack.start(Place(place, self.victim, port, self.canary))
        for path in (place, *place.rglob("*")):
            os.chown(path, self.attacker.uid, self.attacker.uid, follow_symlinks=False)
        return self.attacker.start(place, command)

    def _watch(self, result: Result, failed: set[Command]) -> set[Command]:
        """Commands that have failed since."""
        found = set()
        for command in self._commands:
            if command in failed:
                continue
            command.watch()
            result.peak_mb[command.name] = command.peak_mb
            silent = command.silent_seconds()
            if not command.alive():
                code = command.process.returncode
                result.problems.append(
                    f"{command.name} ended with {code}: {command.errors()[-300:]!r}"
                )
                found.add(command)
            elif silent > self._silent_seconds:
                result.problems.append(f"{command.name} has not answered for {silent:.1f} s")
                found.add(command)
            elif command.peak_mb > MOST_MB * 8:
                result.problems.append(
                    f"{command.name} is ended: it takes {command.peak_mb:.0f} MB"
                )
                found.add(command)
        result.problems += self._files.problems(self._is_ours)
        return found

    def _is_ours(self, pid: int) -> bool:
        return any(pid in command.tree for command in self._commands)

    def _compare(self, result: Result, failed: set[Command]) -> set[Command]:
        """Stop the victim, and compare what each command then says with the truth."""
        self._pause()
        paused_ns = time.monotonic_ns()
        waiting = [command for command in self._commands if command not in failed]
        found: set[Command] = set()
        differed: dict[Command, int] = {}
        denied = {command: command.denied_seconds for command in waiting}
        deadline = time.monotonic() + self._compared_seconds
        while waiting:
            left_out = max(command.denied_seconds - denied[command] for command in waiting)
            if time.monotonic() > deadline + left_out:
                break
            bad = self._watch(result, failed | found)
            found |= bad
            for command in [*waiting]:
                said = command.counted() if command not in bad else None
                if not said or said.at_ns <= paused_ns:
                    continue
                wrong = self._differences(command, said, result)
                # A round ends before its maps are read, and has the time of after: look again.
                if wrong and differed.setdefault(command, said.at_ns) == said.at_ns:
                    continue
                result.problems += wrong
                waiting.remove(command)
            time.sleep(0.2)
        for command in waiting:
            if command not in found:
                result.problems.append(
                    f"{command.name} says nothing new in {self._compared_seconds:.0f} s"
                )
                found.add(command)
        for command in self._commands:
            if command.peak_mb > self._most_mb:
                result.problems.append(
                    f"{command.name} and its children take {command.peak_mb:.0f} MB"
                )
            if isinstance(command, Exporter):
                result.slowest_scrape = command.slowest_seconds
                if command.slowest_seconds > self._scrape_seconds:
                    result.problems.append(f"a scrape took {command.slowest_seconds:.1f} s")
                if command.refused:
                    result.problems.append(f"{command.refused} scrapes were not answered")
        return found

    def _differences(self, command: Command, said: Counted, result: Result) -> list[str]:
        base = self._base[command.name]
        region, copies, late = (
            now - then for now, then in zip(self._truth.sums(), base, strict=True)
        )
        result.copies = max(result.copies, region)
        problems = []
        if said.region is not None and not 0 <= region - said.region <= said.lost:
            problems.append(f"{command.name}: {said.region:,} of {region:,}, {said.lost:,} lost")
        # Of all memory: its stack and data are copied as well, once for each fork and page at most.
        # The exporter may give the victim's label to a name that copies more.
        least = 0 if isinstance(command, Exporter) else region - said.lost
        most = copies + late
        if isinstance(command, Exporter):  # by name: a preempted child's rseq area is a page, too
            most += region // PAGES
        if said.copies is not None and not least <= said.copies <= most:
            problems.append(
                f"{command.name}: {said.copies:,} copies, {said.lost:,} lost; "
                f"{region:,} to {most:,} were made"
            )
        if isinstance(command, Stacks):
            result.named = said.stacks.get("victim_writes", 0) / (sum(said.stacks.values()) or 1)
            if not said.stacks.get("victim_writes"):
                problems.append(f"stacks no longer names the victim's function: {said.stacks}")
            if foreign := [name for name in said.stacks if HOSTILE.search(name)]:
                problems.append(f"stacks names the victim's code as another user says: {foreign}")
        return problems

    def _restart(self, failed: set[Command], result: Result) -> None:
        for command in failed:
            result.problems += command.end()
            self._commands.remove(command)
        if failed:
            with suppress(AssertionError):
                self.start([type(command) for command in failed])
