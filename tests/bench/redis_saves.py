"""Saves of a Redis under traffic, traced: the copies of each over time, and its progress."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from applications.application import children, running, scratch

from bench.redis_traffic import Traffic
from bench.variants import environment
from cowtrace import tracer

LOOK_SECONDS = 0.2
STRETCH = 1.3  # of the seconds below: INFO has the progress of a save once a second


@dataclass(frozen=True, slots=True)
class Setup:
    """A Redis and its clients."""

    name: str
    traffic: Traffic
    seconds: float  # that a save takes, about
    thp: bool = False

    @property
    def changes(self) -> bool:
        """The traffic changes within the save."""
        return self.traffic.second_rate is not None or self.traffic.second_skew is not None


@dataclass(slots=True)
class Save:
    """One generation: what was seen of it, each time it was looked at."""

    setup: str
    number: int  # 1: the first save of this server
    changes: bool
    shareable_bytes: int
    seconds: float = 0.0
    looks: list[dict[str, Any]] = field(default_factory=list)


class Client:
    """A connection to the server, for commands with short replies."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._replies = self._socket.makefile("rb")

    def call(self, *words: str) -> bytes:
        parts = [f"*{len(words)}\r\n", *(f"${len(w.encode())}\r\n{w}\r\n" for w in words)]
        self._socket.sendall("".join(parts).encode())
        line = self._replies.readline()
        assert not line.startswith(b"-"), line
        if line.startswith(b"$"):
            length = int(line[1:])
            return self._replies.read(length + 2) if length >= 0 else b""
        return line

    def info(self) -> dict[str, str]:
        lines = self.call("info", "persistence", "stats").decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


@contextmanager
def server(setup: Setup) -> Iterator[tuple[Client, Path, int]]:
    """A filled one."""
    traffic = setup.traffic
    with scratch() as folder:
        path = folder / "redis.sock"
        own = ["--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", ""]
        own += ["--enable-debug-command", "yes", "--disable-thp", "no" if setup.thp else "yes"]
        # Only this process's memory is huge: the rest of the system stays as it is.
        conf = {"MALLOC_CONF": "thp:always"} if setup.thp else {}
        with running(["redis-server", *own], folder, env=conf) as app:
            app.wait_until(path.exists, "redis-server did not open its socket")
            client = Client(path)
            if traffic.fields:
                script = (
                    "for k=tonumber(ARGV[1]),tonumber(ARGV[2])-1 do local a={} "
                    "for f=0,ARGV[3]-1 do a[#a+1]='f'..f a[#a+1]=string.rep('0',ARGV[4]) end "
                    "redis.call('HSET','key:'..k,unpack(a)) end"
                )
                for start in range(0, traffic.keys, 500):
                    end = min(traffic.keys, start + 500)
                    given = (start, end, traffic.fields, traffic.value_bytes)
                    client.call("eval", script, "0", *map(str, given))
            else:
                client.call("debug", "populate", str(traffic.keys), "key", str(traffic.value_bytes))
            keys = traffic.keys
            each_us = setup.seconds * STRETCH * 1e6 / keys
            # usleep(1) takes some 60 us: every n-th key sleeps; or each, for longer.
            delay = -max(1, round(62 / each_us)) if each_us < 62 else round(each_us - 60)
            client.call("config", "set", "rdb-key-save-delay", str(delay))
            yield client, path, app.pid


def saves(
    live: tracer.Tracer, setup: Setup, number: int = 2, warm_seconds: float = 2.0
) -> Iterator[Save]:
    """The first saves of a server, one after the other under the same traffic."""
    with server(setup) as (client, path, pid):
        load = subprocess.Popen(
            [sys.executable, "-m", "bench.redis_traffic", str(path), setup.traffic.words()],
            env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert load.stdin
        assert load.stdout
        try:
            load.stdout.readline()
            time.sleep(warm_seconds)
            for each in range(1, number + 1):
                # Traffic that has changed stays so: there is one such save.
                changing = setup.changes and each == number
                middle = setup.seconds * STRETCH * 0.4 if changing else None
                yield _save(live, setup, each, client, pid, load.stdin, middle)
                time.sleep(1.0)
        finally:
            load.kill()
            load.wait()


def _save(
    live: tracer.Tracer, setup: Setup, number: int, client: Client, pid: int, tell: Any,
    middle: float | None,
) -> Save:  # fmt: skip
    client.call("bgsave")
    (child,) = children(pid)
    save = Save(setup.name, number, middle is not None, 0)
    began = time.monotonic()
    while True:
        now = live.snapshot()
        generation = next(
            g for g in reversed(now.generations) if (g.parent, g.child) == (pid, child)
        )
        info = client.info()
        save.shareable_bytes = generation.shareable_bytes or 0
        parent = now.process(pid)
        total = int(info["current_save_keys_total"])
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        written = _written(child)
        save.looks.append(
            {
                "seconds": (now.at_ns - generation.at_ns) / 1e9,
                "parent": generation.parent_copied_bytes,
                "child": generation.child_copied_bytes,
                "progress": int(info["current_save_keys_processed"]) / total if total else None,
                "written": written,
                "work": int(info["total_commands_processed"]),
                "faults": {row.kind.name.lower(): row.faults for row in parent.rows}
                if parent
                else {},
                "cpu": int(stat[11]) + int(stat[12]),
                "lost": now.completeness.lost,
            }
        )
        if generation.ended_ns is not None:
            save.seconds = (generation.ended_ns - generation.at_ns) / 1e9
            return save
        if middle is not None and time.monotonic() - began > middle:
            tell.write(b"\n")
            tell.flush()
            middle = None
        time.sleep(LOOK_SECONDS)


def _written(child: int) -> int | None:
    try:
        lines = Path(f"/proc/{child}/io").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("wchar")), None)


def setups() -> tuple[Setup, ...]:
    """Those of the benchmark."""
    found: list[Setup] = []

    def add(kind: str, seconds: float, *, thp: bool = False, **traffic: Any) -> None:
        one = Traffic(**traffic)
        found.append(Setup(f"{len(found) + 1:02} {kind}", one, seconds, thp))

    add("uniform", 20, keys=600_000, value_bytes=100, rate=2500)
    add("uniform", 24, keys=1_500_000, value_bytes=100, rate=6000)
    add("uniform thp", 20, keys=600_000, value_bytes=100, rate=1500, thp=True)
    add("uniform slow", 25, keys=1_000_000, value_bytes=200, rate=500)
    add("uniform 1kB", 20, keys=300_000, value_bytes=1000, rate=2000)
    add("uniform 1kB thp", 24, keys=200_000, value_bytes=1000, rate=3000, thp=True)
    add("uniform 8kB", 20, keys=30_000, value_bytes=8000, rate=500)
    add("uniform sizes", 24, keys=400_000, value_bytes=400, rate=2000, sizes=True)
    add("uniform sizes", 28, keys=250_000, value_bytes=1500, rate=1000, sizes=True)
    add("zipf 0.8", 20, keys=600_000, value_bytes=100, rate=2500, skew=0.8)
    add("zipf 0.99", 24, keys=600_000, value_bytes=100, rate=4000, skew=0.99)
    add("zipf 0.99", 28, keys=1_500_000, value_bytes=100, rate=8000, skew=0.99)
    add("zipf 0.99 thp", 20, keys=600_000, value_bytes=100, rate=3000, skew=0.99, thp=True)
    add("zipf 1.2", 24, keys=600_000, value_bytes=100, rate=6000, skew=1.2)
    add("zipf 1.2", 28, keys=300_000, value_bytes=1000, rate=4000, skew=1.2)
    add("zipf 0.99 1kB", 20, keys=300_000, value_bytes=1000, rate=3000, skew=0.99)
    add("zipf 0.8 1kB", 24, keys=400_000, value_bytes=1000, rate=2000, skew=0.8)
    add("zipf near", 20, keys=600_000, value_bytes=100, rate=5000, skew=0.99, near=True)
    add("zipf near 1kB", 24, keys=300_000, value_bytes=1000, rate=2000, skew=0.8, near=True)
    add(
        "zipf near thp", 20, keys=600_000, value_bytes=100, rate=5000, skew=0.9, near=True, thp=True
    )
    add("hot 10 %", 24, keys=600_000, value_bytes=100, rate=2000, hot=0.1)
    add("hot 30 %", 20, keys=400_000, value_bytes=500, rate=2000, hot=0.3)
    add("hot 30 % zipf", 24, keys=800_000, value_bytes=100, rate=4000, hot=0.3, skew=0.9)
    add("hash 50", 20, keys=20_000, value_bytes=20, rate=2000, fields=50)
    add("hash 100", 28, keys=20_000, value_bytes=24, rate=3000, fields=100)
    add("hash 200", 20, keys=8_000, value_bytes=70, rate=5000, fields=200)
    add("hash 200 thp", 24, keys=8_000, value_bytes=70, rate=3000, fields=200, thp=True)
    add("hash 50 zipf", 24, keys=20_000, value_bytes=20, rate=4000, fields=50, skew=0.99)
    add("hash 200 zipf", 28, keys=10_000, value_bytes=70, rate=3000, fields=200, skew=0.8)
    add("new keys", 20, keys=600_000, value_bytes=100, rate=2000, new=0.3)
    add("new keys zipf", 24, keys=600_000, value_bytes=100, rate=4000, new=0.5, skew=0.9)
    add("uniform fast", 20, keys=300_000, value_bytes=100, rate=10000)
    add("uniform slow", 28, keys=300_000, value_bytes=1000, rate=200)
    add("zipf fast", 20, keys=1_000_000, value_bytes=100, rate=12000, skew=0.99)
    add("uniform large", 28, keys=4_000_000, value_bytes=100, rate=6000)
    add("zipf large", 28, keys=3_000_000, value_bytes=100, rate=8000, skew=0.9)
    add("faster", 20, keys=600_000, value_bytes=100, rate=1500, second_rate=6000)
    add("slower", 20, keys=600_000, value_bytes=100, rate=4000, second_rate=1000)
    add("skewed", 24, keys=600_000, value_bytes=100, rate=4000, second_skew=1.1)
    add("spread", 24, keys=600_000, value_bytes=100, rate=4000, skew=1.1, second_skew=0.0)
    add("hash faster", 20, keys=20_000, value_bytes=20, rate=1000, fields=50, second_rate=4000)
    add("zipf slower", 24, keys=300_000, value_bytes=1000, rate=3000, skew=0.9, second_rate=600)
    return tuple(found)


def main() -> None:
    """Write one line of JSON for each save: `python -m bench.redis_saves FILE [NAME...]`."""
    path, *names = sys.argv[1:]
    with (
        Path(path).open("a") as stream,
        tracer.attach("auto", details=frozenset({"generation"})) as live,
    ):
        for setup in setups():
            if names and not setup.name.startswith(tuple(names)):
                continue
            for save in saves(live, setup):
                stream.write(json.dumps(asdict(save)) + "\n")
                stream.flush()
                last = save.looks[-1]
                print(setup.name, save.number, f"{save.seconds:.1f}s", save.shareable_bytes >> 20,
                      last["parent"] >> 20, last["child"] >> 20, last["lost"],
                      os.getloadavg()[0], flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
