"""Ask of real applications: how fast copies grow, the worst case, and whether a fix helped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command import COWTRACE, PATIENCE

from applications import test_gunicorn, test_redis
from applications.watched import Watched, fork_of, need, uncertain_bytes
from cowtrace.analysis.forks import Trend, fork_rows
from cowtrace.model import ForkGeneration, Snapshot
from cowtrace.workloads.region import PAGE_BYTES

pytestmark = [pytest.mark.host, pytest.mark.vm, pytest.mark.spread]

PAUSE = 0.3  # seconds between two looks
COMPLETE = ("lost", "unclassified")


def test_redis_levels_off_when_idle_and_stays_below_the_forecast_worst_case(
    watched: Watched,
) -> None:
    need("redis-server", "redis-server")
    with test_redis.server() as redis:
        child = redis.save()
        os.kill(child, signal.SIGSTOP)
        # redis-benchmark takes the same random keys each time: only more of them are other ones.
        # A few hundred of them are in all pages, where these are large.
        few = test_redis.KEYS // 256 * 4096 // PAGE_BYTES
        looks = [look_after(watched, partial(redis.write, times * few)) for times in range(1, 5)]
        looks += [look_after(watched, lambda: None) for _ in range(4)]
        end = look_after(watched, lambda: redis.write(2 * test_redis.KEYS))
        os.kill(child, signal.SIGCONT)
        redis.app.wait_until(lambda: redis.info("rdb_bgsave_in_progress") == "0", "BGSAVE")
        done = watched.look()
    for plan, last in done.items():
        history = [look[plan] for look in looks]
        seen = [(fork_of(look, child), look.at_ns) for look in history]
        assert trend(history[:4], child) is Trend.GROWS, seen
        assert trend(history, child) in (Trend.SLOWS, Trend.STILL), seen
        assert trend([*history, last], child) is Trend.ENDED
        before, after = fork_of(history[-1], child), fork_of(end[plan], child)
        assert 0 < lost(before) < lost(after) <= 1
        assert after.copied_bytes > before.copied_bytes
        assert before.worst_case_bytes is not None
        came = fork_of(last, child).copied_bytes - before.copied_bytes
        assert came <= before.worst_case_bytes + uncertain_bytes(last)
        assert fork_of(last, child).worst_case_bytes == 0


def test_diff_answers_that_freezing_helped_gunicorn(watched: Watched, tmp_path: Path) -> None:
    need("gunicorn", "gunicorn")
    for name, freeze in (("plain.cow", False), ("frozen.cow", True)):
        with (
            test_gunicorn.server(freeze=freeze) as gunicorn,
            recorded(tmp_path / name, gunicorn.app.pid),
        ):
            pages = gunicorn.get("/collect")["pages"]
    difference: dict[str, Any] = json.loads(
        output("diff", "--json", tmp_path / "plain.cow", tmp_path / "frozen.cow")
    )
    first = difference["questions"][0]["measures"][0]
    assert first["name"] == "copied"
    assert first["before"] >= pages * PAGE_BYTES
    assert first["after"] < 0.2 * first["before"]
    words = output("diff", tmp_path / "plain.cow", tmp_path / "frozen.cow")
    assert "% less than plain.cow: " in " ".join(words.split("\n\n")[0].split())
    report: dict[str, Any] = json.loads(output("report", "--json", tmp_path / "plain.cow"))
    complete = {each["name"]: each["value"] for each in report["answers"][9]["measures"]}
    assert {name: complete[name] for name in COMPLETE} == dict.fromkeys(COMPLETE, 0)


def look_after(watched: Watched, work: Any) -> dict[str, Snapshot]:
    """A snapshot by each plan once the work is done, after a pause."""
    work()
    time.sleep(PAUSE)
    return watched.look()


def trend(history: list[Snapshot], child: int) -> Trend | None:
    return next(row.trend for row in fork_rows(history, None) if row.generation.child == child)


def lost(generation: ForkGeneration) -> float:
    assert generation.share_lost is not None
    return generation.share_lost


@contextmanager
def recorded(file: Path, pid: int) -> Iterator[None]:
    """The process and its descendants, from before the block to its end."""
    with subprocess.Popen(
        [*COWTRACE, "record", "-o", file, "--interval", "0.2", "-p", str(pid)],
        stderr=subprocess.PIPE,
        text=True,
    ) as recorder:
        deadline = time.monotonic() + PATIENCE
        while not file.exists() and recorder.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        try:
            yield
            time.sleep(0.5)
        finally:
            recorder.send_signal(signal.SIGINT)
            _, errors = recorder.communicate(timeout=PATIENCE)
    assert recorder.returncode == 0, errors


def output(*arguments: str | Path) -> str:
    """What cowtrace prints."""
    ended = subprocess.run(
        [*COWTRACE, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
