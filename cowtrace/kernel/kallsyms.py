"""Look up addresses of kernel functions and variables in /proc/kallsyms."""

from __future__ import annotations

import json
import re
from pathlib import Path

from cowtrace import cache


def symbols(names: tuple[str, ...]) -> dict[str, int]:
    """Like read_kallsyms(), but only once a boot: the look-up is a quarter of a start's time."""
    key = cache.key("kallsyms", cache.boot_id(), *names)
    data = cache.read(key)
    if data is not None:
        cached: dict[str, int] = json.loads(data)
        return cached
    found = read_kallsyms(names)
    if all(found.values()):
        cache.write(key, json.dumps(found).encode())
    return found


def read_kallsyms(names: tuple[str, ...], path: Path = Path("/proc/kallsyms")) -> dict[str, int]:
    """Addresses of kernel symbols that exist under their plain name (not inlined, no .isra).

    NAME.* is the first variant of a function that the compiler made: NAME.isra.0, say. An address
    is 0 where kernel.kptr_restrict hides it.
    """
    text = path.read_bytes()
    found = {}
    for name in names:
        if name.endswith(".*"):
            variant = rb"^([0-9a-f]+) \w %s\.(?!cold)\S+$" % name[:-2].encode()
            if match := re.search(variant, text, re.MULTILINE):
                found[name] = int(match[1], 16)
            continue
        end = text.find(b" %s\n" % name.encode())
        if end >= 0:
            line = text[text.rfind(b"\n", 0, end) + 1 : end]
            found[name] = int(line.split()[0], 16)
    return found
