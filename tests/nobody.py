"""Run cowtrace as user nobody with two capabilities, and read what its exporter counts."""

from __future__ import annotations

import re
import sys
import urllib.request
from contextlib import suppress

from command import PATIENCE
from sources import writes

PAGES = 509
# As the unit has it, where this kernel knows it (6.3): PR_SET_MDWE. Then the command line.
START = """
import ctypes, sys
ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)
from cowtrace.cli import main
main(sys.argv[1:], prog_name="cowtrace")
"""
WORK = f"""
{writes(PAGES)}
ctypes.CDLL(None).prctl(15, b"cow-nobody")
child = os.fork()
if not child:
    write()
    os._exit(0)
os.waitpid(child, 0)
"""


def as_nobody(
    *arguments: str, capabilities: str = ",+bpf,+perfmon", start: str = START
) -> list[str]:
    """The command line of cowtrace, by a user with these capabilities and no others."""
    sets = [f"--{name}=-all{capabilities}" for name in ("inh-caps", "bounding-set")]
    if capabilities:
        sets.append(f"--ambient-caps=-all{capabilities}")
    user = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--no-new-privs"]
    return ["setpriv", *user, *sets, "env", "HOME=/nonexistent", "XDG_CACHE_HOME=/dev/null",
            sys.executable, "-c", start, *arguments]  # fmt: skip


def page(url: str) -> str:
    """Asked for three times at most: the exporter ends a client that takes 5 s, as in a slow VM."""
    for _ in range(2):
        with suppress(ConnectionError), urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return str(answer.read().decode())
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def copies(page: str) -> float:
    """Of WORK, on the exporter's page."""
    mine = r'^cowtrace_faults_total{.*"cow-nobody",kind="copied".* (\S+)$'
    return sum(map(float, re.findall(mine, page, re.MULTILINE)))
