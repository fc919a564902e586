"""Forecasts of what a Redis save copies, made after a part of it, against what it copied.

`python -m bench.forecast FOLDER` judges again the saves that `make bench SECTIONS=forecast` left
there.

Beside them, in the same runs: a straight line through what is copied so far, and the most that can
be copied, which is all that was shared.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.redis_saves import setups
from bench.report import Report, prose, table
from bench.variants import Missing, environment
from cowtrace.analysis.forecast import Forecast
from cowtrace.analysis.forecaster import Forecaster, Progress
from cowtrace.model import Completeness, Ending, ForkGeneration, Snapshot

AT = 0.1  # of a save
LATER = (0.2, 0.3, 0.5)  # for first saves
NEAR = 0.15  # of what it copied
GOAL = 0.9  # of the saves
WORKERS = 5  # servers at a time
_PARENT, _CHILD = 1, 2
_KEPT = Path("build/redis-saves")  # what was measured
_LEAST_LOOKS = 30  # at one save: on a machine that is too busy, a tenth of it has no curve
_DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Made:
    """A forecast of one save, by three methods, as a ratio to what it copied."""

    setup: str
    kind: str  # see `run`
    low: float
    expected: float
    high: float
    linear: float
    bound: float
    end: float | None  # of the save, as a ratio to how long it took


def run(say: Callable[[str], None]) -> Report:
    """Raises Missing."""
    if not shutil.which("redis-server"):
        raise Missing("redis-server is not installed: apt install redis-server")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.jsonl" for number in range(WORKERS)]
        names = [each.name.partition(" ")[0] for each in setups()]
        say(f"{len(names)} servers, {WORKERS} at a time, two saves each; load {os.getloadavg()[0]}")
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.redis_saves", str(file), *names[number::WORKERS]],
                env=environment(), stdout=sys.stderr,
            )
            for number, file in enumerate(files)
        ]  # fmt: skip
        codes = [worker.wait() for worker in workers]
        shutil.copytree(folder, _KEPT, dirs_exist_ok=True)
        if any(codes):
            raise Missing("a server or its clients failed")
        saves = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return report(saves)


def report(saves: Iterable[dict[str, Any]]) -> Report:
    """Of these saves: `python -m bench.redis_saves` writes such objects."""
    everything = list(saves)
    whole = [save for save in everything if _is_whole(save)]
    made = [*forecasts(whole), *(each for at in LATER for each in forecasts(whole, at))]
    kinds = {
        "second save, same traffic": "after",
        "first save": "first",
        **{f"first save, after {at:.0%}": f"first {at}" for at in LATER},
        "traffic changes midway": "changes",
    }
    rows = []
    for words, kind in kinds.items():
        of_kind = [each for each in made if each.kind == kind]
        if not of_kind:
            continue
        for group, members in _groups(of_kind, kind).items():
            name = f"{words}: all" if group == "all" else f"- {group}"
            rows.append((name, str(len(members)), *_hits(members)))
    what = (
        f"Saves of which the final copied bytes were within {NEAR:.0%} of a forecast made "
        f"after {AT:.0%} of the save, or after the part named. Linear: a straight line "
        "through what was copied so far, up to the true end. Bound: all that was shared "
        "at the fork. 80 %: how often the truth lay between LOW and HIGH, which should be "
        "8 of 10. A second save follows a first one of the same server, which cowtrace "
        "saw. The end of a save comes from INFO's progress, and from the first save. "
        f"Goal: {GOAL:.0%} of the second saves."
    )
    if len(whole) < len(everything):
        what += f" {len(everything) - len(whole)} saves are left out: faults were lost in them, or "
        what += f"they were seen less than {_LEAST_LOOKS} times."
    head = ("Saves of Redis", "Saves", "Forecast", "Linear", "Bound", "80 %", "Error")
    data = [asdict(each) for each in made]
    return Report("Forecast of a save's copies", [*table(head, rows), *prose(what)], data)


def forecasts(saves: Iterable[dict[str, Any]], at: float = AT) -> Iterator[Made]:
    """Each save by itself; and, `at` being AT, those that have a save before them after it."""
    by_setup: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for save in saves:
        by_setup[save["setup"]].append(save)
    for name, of_one in sorted(by_setup.items()):
        ordered = sorted(of_one, key=lambda save: save["number"])
        learned = Forecaster()
        for save in ordered:
            changes = save["changes"]
            alone = replayed(save, Forecaster(), at)
            after = replayed(save, learned)
            if not changes:
                yield _compared(name, "first" if at == AT else f"first {at}", save, alone, at)
            if at == AT and save is not ordered[0]:
                yield _compared(name, "changes" if changes else "after", save, after, at)


def replayed(save: dict[str, Any], forecaster: Forecaster, at: float = AT) -> Forecast | None:
    """What the forecaster said then. It gets all that follows, too, and so learns from it."""
    found: Forecast | None = None
    asked = False
    for look in save["looks"]:
        ended = look["seconds"] >= save["seconds"]
        progress, now = look["progress"], _snapshot(save, look, ended=ended)
        answer = Progress(progress, look.get("work")) if progress is not None else None
        forecaster.note(now, {_PARENT: answer} if answer else {})
        if not asked and look["seconds"] >= at * save["seconds"]:
            found, asked = forecaster.forecasts(now).get(save["number"]), True
    return found


def _is_whole(save: dict[str, Any]) -> bool:
    """Whether each of its copies was seen, and often enough."""
    return (
        len(save["looks"]) >= _LEAST_LOOKS and save["looks"][0]["lost"] == save["looks"][-1]["lost"]
    )


def _snapshot(save: dict[str, Any], look: dict[str, Any], *, ended: bool) -> Snapshot:
    at_ns = save["number"] * _DAY_NS
    generation = ForkGeneration(
        number=save["number"], parent=_PARENT, child=_CHILD, at_ns=at_ns,
        shareable_bytes=save["shareable_bytes"],
        ended_ns=at_ns + round(save["seconds"] * 1e9) if ended else None,
        ended_by=Ending.EXIT if ended else None,
        parent_copied_bytes=look["parent"], child_copied_bytes=look["child"],
    )  # fmt: skip
    empty = Snapshot(at_ns + round(look["seconds"] * 1e9), 0, "", "", 4096, (),
                     Completeness(0, ()), frozenset())  # fmt: skip
    return replace(empty, generations=(generation,))


def _compared(name: str, kind: str, save: dict[str, Any], made: Forecast | None, at: float) -> Made:
    last, seconds = save["looks"][-1], save["seconds"]
    truth = last["parent"] + last["child"]
    then = next(look for look in save["looks"] if look["seconds"] >= at * seconds)
    linear = (then["parent"] + then["child"]) / then["seconds"] * seconds
    bound = save["shareable_bytes"]
    if made is None:
        return Made(name, kind, 0, bound / truth, 1e9, linear / truth, bound / truth, None)
    end = None
    if made.ends_in_seconds is not None:
        end = (then["seconds"] + made.ends_in_seconds) / seconds
    low, expected, high = made.low_bytes, made.expected_bytes, made.high_bytes
    return Made(name, kind, low / truth, expected / truth, high / truth,
                linear / truth, bound / truth, end)  # fmt: skip


def _groups(made: Sequence[Made], kind: str) -> dict[str, list[Made]]:
    """All, then by the first word of the setup, and those with huge pages."""
    groups: dict[str, list[Made]] = {"all": list(made)}
    for each in made:
        groups.setdefault(each.setup.split()[1], []).append(each)
        if "thp" in each.setup:
            groups.setdefault("huge pages", []).append(each)
    return groups if kind in ("after", "first") and len(made) > 8 else {"all": list(made)}


def _hits(made: Sequence[Made]) -> tuple[str, ...]:
    def near(ratios: Iterable[float]) -> str:
        return str(sum(abs(ratio - 1) <= NEAR for ratio in ratios))

    errors = sorted(abs(each.expected - 1) for each in made)
    return (
        near(each.expected for each in made),
        near(each.linear for each in made),
        near(each.bound for each in made),
        str(sum(each.low <= 1 <= each.high for each in made)),
        f"{100 * errors[len(errors) // 2]:.0f} %",
    )


if __name__ == "__main__":
    _saves = (
        json.loads(line)
        for file in sorted(Path(sys.argv[1]).glob("*.jsonl"))
        for line in file.read_text().splitlines()
    )
    print(*report(_saves).lines, sep="\n")
