"""A file that is served by FUSE for a workload is unmounted, however the workload ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cowtrace.workloads import fuse_file
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.region import FILE_BYTE, PAGE_BYTES

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts"),
]

PAGES = 23
PATIENCE = 60
# Python looks for a signal between two sleeps: one that comes just before a sleep does not end it.
HOLD = """
import time
from cowtrace.workloads import fuse_file
with fuse_file.mounted(23) as served:
    print(served.file.name, flush=True)
    while True:
        time.sleep(0.1)
"""


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def test_it_has_the_known_bytes_and_counts_what_it_reads() -> None:
    try:
        with fuse_file.mounted(PAGES) as served:
            path = Path(served.file.name)
            assert str(path) in mounts()
            assert served.reads() == 0
            assert os.pread(served.file.fileno(), PAGE_BYTES, 0) == bytes([FILE_BYTE]) * PAGE_BYTES
            assert served.reads() == 1
            assert path.stat().st_size == PAGES * PAGE_BYTES
    except Unsupported as reason:
        pytest.skip(str(reason))
    assert str(path) not in mounts()
    assert not path.parent.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_is_unmounted_when_its_user_is_killed(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as holder:
        assert holder.stdout
        assert holder.stderr
        name = holder.stdout.readline().strip()
        if not name and "Unsupported" in (said := holder.stderr.read()):
            pytest.skip(said)
        assert name in mounts()
        holder.send_signal(number)
        holder.wait(PATIENCE)
    end = time.monotonic() + PATIENCE
    while Path(name).parent.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert name not in mounts()
    assert not Path(name).parent.exists()
