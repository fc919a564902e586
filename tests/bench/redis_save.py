"""One save of a Redis server while clients write, to be compared by `cowtrace try`.

    python3 tests/bench/redis_save.py SERVER VALUE_BYTES WRITES [KEYS]

As in redis 15260 and valkey 905: keys are filled in order, half of them are written again in random
order, a tenth is deleted; then, during a BGSAVE, WRITES keys are written, and four times as many
read. They go with the save's progress, so that on a busy machine a save meets no more of them.
Prints what Redis reports.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

_BATCH = 200  # commands that are sent together
_ASK_SECONDS = 0.25


class Client:
    """Speaks to a server by its socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._replies = self._socket.makefile("rb")

    def send(self, commands: Iterable[tuple[bytes, ...]]) -> list[bytes]:
        """Send commands in batches; return their replies."""
        rest, found = [*commands], []
        while rest:
            now, rest = rest[:_BATCH], rest[_BATCH:]
            self._socket.sendall(b"".join(map(_encoded, now)))
            found += [self._reply() for _ in now]
        return found

    def info(self, section: bytes) -> dict[str, str]:
        (text,) = self.send([(b"INFO", section)])
        pairs = (line.partition(":") for line in text.decode().split("\r\n"))
        return {name: value for name, _, value in pairs}

    def _reply(self) -> bytes:
        line = self._replies.readline()
        if line.startswith(b"$"):
            return self._replies.read(int(line[1:]) + 2)[:-2]
        assert line[:1] in b"+:", line
        return line[1:].strip()


def _encoded(words: tuple[bytes, ...]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def save(server: str, size: int, writes: int, keys: int, folder: Path) -> str:
    """What Redis says about the copies of one save, in words."""
    path, noise = folder / "socket", os.urandom(1 << 20)
    running = subprocess.Popen(
        [server, "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder],
        stdout=subprocess.DEVNULL,
    )
    try:
        while not path.exists():
            time.sleep(0.02)
        client = Client(path)

        def write(number: int) -> tuple[bytes, ...]:
            at = random.randrange(len(noise) - size)
            return b"SET", b"key:%010d" % number, noise[at : at + size]

        for first in range(0, keys, _BATCH):
            client.send(map(write, range(first, min(keys, first + _BATCH))))
        for _ in range(0, keys // 2, _BATCH):
            client.send(write(random.randrange(keys)) for _ in range(_BATCH))
        dead = set(random.sample(range(keys), keys // 10))
        client.send((b"DEL", b"key:%010d" % number) for number in dead)
        live = [number for number in range(keys) if number not in dead]
        # The child sleeps between keys: it, and not this machine, decides how long the save takes.
        client.send([(b"CONFIG", b"SET", b"rdb-key-save-delay", b"-4"), (b"BGSAVE",)])
        written, ask_at = 0, 0.0
        while True:
            saved = sum(file.stat().st_size for file in folder.glob("temp-*.rdb"))
            due = int(writes * min(1.0, saved / (len(live) * (size + 20)))) - written
            load = [write(random.choice(live)) for _ in range(due)]
            load += [(b"GET", b"key:%010d" % random.choice(live)) for _ in range(4 * due)]
            random.shuffle(load)
            client.send(load)
            written += max(0, due)
            if time.monotonic() > ask_at:
                ask_at = time.monotonic() + _ASK_SECONDS
                state = client.info(b"persistence")
                if state["rdb_bgsave_in_progress"] == "0":
                    break
            time.sleep(0.002)
        held = int(state["rdb_last_cow_size"]) / 1e6
        rss = int(client.info(b"memory")["used_memory_rss"]) / 1e6
        return f"rdb_last_cow_size {held:.1f} MB, of {rss:.1f} MB; {written} writes"
    finally:
        running.terminate()
        running.wait()


def main() -> None:
    server, *numbers = sys.argv[1:]
    size, writes, keys = (*map(int, numbers), 200_000)[:3]
    with tempfile.TemporaryDirectory() as folder:
        print(
            f"{server}, {size} bytes:", save(server, size, writes, keys, Path(folder)), flush=True
        )


if __name__ == "__main__":
    main()
