"""Clients that write to a Redis at a bounded rate until they are ended.

    python -m bench.redis_traffic SOCKET TRAFFIC

TRAFFIC is a Traffic as JSON. When it changes midway, a line on stdin begins the second half.
"""

from __future__ import annotations

import itertools
import json
import random
import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

_TICK_SECONDS = 0.01
_MOST_AT_ONCE = 2000  # commands, after a pause of this machine
_SPREAD = 7_368_787  # a prime: the keys that are written most are not neighbours


@dataclass(frozen=True, slots=True)
class Traffic:
    """Which keys are written, and how often."""

    keys: int
    value_bytes: int
    rate: int  # commands a second
    skew: float = 0.0  # exponent of Zipf's law; 0: uniform
    hot: float = 1.0  # only this part of the keys is written
    near: bool = False  # the keys that are written most are neighbours, as recent ones are
    fields: int = 0  # of each hash; 0: keys are strings
    new: float = 0.0  # of the commands, the part that adds a key
    sizes: bool = False  # values of 0.5 to 1.5 times value_bytes
    second_rate: int | None = None  # from the middle on
    second_skew: float | None = None

    def words(self) -> str:
        """As an argument."""
        return json.dumps(asdict(self))


def chooser(traffic: Traffic, skew: float, seed: int) -> Callable[[int], list[int]]:
    """A function that draws so many numbers of keys."""
    draw = random.Random(seed)
    keys = max(1, int(traffic.keys * traffic.hot))
    if not skew:
        return lambda number: [int(draw.random() * keys) for _ in range(number)]
    sums = [*itertools.accumulate((rank + 1) ** -skew for rank in range(keys))]
    step = 1 if traffic.near else _SPREAD
    ranks = range(keys)
    return lambda number: [
        rank * step % keys for rank in draw.choices(ranks, cum_weights=sums, k=number)
    ]


def commands(
    traffic: Traffic, numbers: list[int], draw: random.Random, added: itertools.count[int]
) -> bytes:
    """In Redis's protocol."""
    text = []
    for number in numbers:
        if traffic.new and draw.random() < traffic.new:
            text.append(_command("SET", f"new:{next(added)}", "x" * traffic.value_bytes))
            continue
        if traffic.fields:
            field = f"f{int(draw.random() * traffic.fields)}"
            value = f"{draw.getrandbits(32):0{traffic.value_bytes}d}"
            text.append(_command("HSET", f"key:{number}", field, value))
            continue
        size = traffic.value_bytes
        if traffic.sizes:
            size = int(size * (0.5 + draw.random()))
        text.append(_command("SET", f"key:{number}", "y" * size))
    return "".join(text).encode()


def _command(*words: str) -> str:
    return f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)


def main() -> None:
    path, words = sys.argv[1:]
    traffic = Traffic(**json.loads(words))
    draw, added = random.Random(7), itertools.count()
    choose = chooser(traffic, traffic.skew, 1)
    second = traffic.second_skew
    choose_second = choose if second is None else chooser(traffic, second, 2)
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    print("ready", flush=True)
    rate, last, owed = traffic.rate, time.monotonic(), 0.0
    while True:
        time.sleep(_TICK_SECONDS)
        if select.select([sys.stdin], [], [], 0)[0]:
            if not sys.stdin.readline():
                return
            rate, choose = traffic.second_rate or rate, choose_second
        now = time.monotonic()
        owed = min(_MOST_AT_ONCE, owed + (now - last) * rate)
        last = now
        number = int(owed)
        owed -= number
        if not number:
            continue
        client.sendall(commands(traffic, choose(number), draw, added))
        replies = 0
        while replies < number:
            # A reply of HSET or SET is a line.
            replies += client.recv(1 << 16).count(b"\n")


if __name__ == "__main__":
    main()
