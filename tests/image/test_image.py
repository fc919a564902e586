"""The container image, run by podman as the guide says: it traces what runs outside of it.

`.ci/container-test` builds it, as localhost/cowtrace, and runs these as root.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from command import PATIENCE, eventually
from sources import writes
from system.test_exporter import PAGES, page

from cowtrace.errors import EXIT_NO_PLAN

RUN = ["podman", "run", "--rm"]
PAGE = Path(__file__).parents[2] / "cowtrace" / "guide" / "containers.md"
NAME = "cow-outside"
# Forks a child that writes all of its memory, and ends when its stdin does. Says the child's pid.
WORK = f"""
{writes(PAGES)}
child = os.fork()
if not child:
    ctypes.CDLL(None).prctl(15, b"{NAME}")
    write()
    sys.stdin.readline()
    os._exit(0)
print(child, flush=True)
os.waitpid(child, 0)
"""


def options_of_the_guide() -> list[str]:
    """What the guide's command has between `podman run` and the image's name; no terminal."""
    found = re.search(
        r"^sudo podman run --rm -it ((?:.*\\\n)*.*) cowtrace top$", PAGE.read_text(), re.M
    )
    assert found, "the guide's command looks different now"
    return shlex.split(found[1].replace("\\\n", ""))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *arguments], capture_output=True, text=True, timeout=PATIENCE)


def test_it_traces_a_process_outside(tmp_path: Path) -> None:
    lines, watch = tmp_path / "lines", ("top", "--json", "0.5")
    with (
        lines.open("w") as out,
        subprocess.Popen(
            [*RUN, "--name", "tracing", *options_of_the_guide(), "cowtrace", *watch],
            stdout=out,
        ) as traced,
    ):
        try:
            assert eventually(lambda: lines.read_text().count("\n") > 0)
            with outside() as child:
                assert eventually(lambda: seen(lines, child))
        finally:
            subprocess.run(["podman", "kill", "--signal", "INT", "tracing"], check=True)
        assert traced.wait(PATIENCE) == 0
    found = seen(lines, child)
    assert found["comm"] == NAME
    assert found["copied"] >= PAGES
    assert json.loads(lines.read_text().splitlines()[-1])["lost"] == 0


def test_without_the_hosts_pids_it_refuses() -> None:
    options = [option for option in options_of_the_guide() if option != "--pid=host"]
    ended = run(*options, "cowtrace", "top", "1", "1")
    assert ended.returncode == EXIT_NO_PLAN
    assert "PID namespace" in ended.stderr
    assert "\nHint: " in ended.stderr


def test_without_capabilities_it_refuses() -> None:
    options = " ".join(options_of_the_guide()).replace("BPF,PERFMON,", "").split()
    ended = run(*options, "cowtrace", "top", "1", "1")
    assert ended.returncode == EXIT_NO_PLAN
    assert "CAP_BPF and CAP_PERFMON" in ended.stderr


def test_without_a_command_it_is_the_exporter() -> None:
    named = ("-d", "--name", "exporting", "--network=host")
    started = run(*named, *options_of_the_guide(), "cowtrace")
    assert started.returncode == 0, started.stderr
    try:
        assert eventually(lambda: "cowtrace_build_info" in scraped())
    finally:
        subprocess.run(["podman", "stop", "--time", "20", "exporting"], check=True)


@contextmanager
def outside() -> Iterator[int]:
    """The child's pid; it has not ended yet."""
    with subprocess.Popen(
        [sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout
        yield int(running.stdout.readline())
        running.communicate("\n", timeout=PATIENCE)


def seen(lines: Path, pid: int) -> Any:
    """The process in the last whole line; None when it is not in it."""
    whole = lines.read_text().split("\n")[:-1]
    return next((p for p in json.loads(whole[-1])["processes"] if p["pid"] == pid), None)


def scraped() -> str:
    try:
        return page("http://127.0.0.1:9435/metrics")
    except OSError:
        return ""
