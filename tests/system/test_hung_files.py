"""A traced process's code lies in a file system that no longer answers: no copy is missed for that.

An ordinary user cannot do this to root, who may not read such a mount (FUSE without allow_other);
an NFS or sshfs server that hangs can.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import COWTRACE, PATIENCE, eventually
from silent_files import silent_files

from cowtrace.model import FaultKind
from cowtrace.recording.reader import read

pytestmark = [
    pytest.mark.host,
    pytest.mark.spread,
    pytest.mark.usefixtures("can_trace"),
]

PAGES = 1009
LIBRARY = """
void write_pages(char *memory, long pages)
{
	for (long i = 0; i < pages; i++)
		memory[i << 12]++;
}
"""
# Loads the library, then forks a child at each line, which copies its pages in that code.
WORK = f"""
import ctypes, mmap, os, sys
write_pages = ctypes.CDLL(sys.argv[1]).write_pages
memory = mmap.mmap(-1, {PAGES} << 12, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
at = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
write_pages(at, ctypes.c_long({PAGES}))
print("ready", flush=True)
for line in sys.stdin:
    if not (child := os.fork()):
        write_pages(at, ctypes.c_long({PAGES}))
        os._exit(0)
    os.waitpid(child, 0)
    print(child, flush=True)
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: a library that is mapped")
    source, built = tmp_path / "pages.c", tmp_path / "pages.so"
    source.write_text(LIBRARY)
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", built, source], check=True)
    return built


def test_record_counts_what_code_of_a_hung_file_system_copies(
    library: Path, tmp_path: Path
) -> None:
    folder, file = tmp_path / "mounted", tmp_path / "hung.cow"
    folder.mkdir()
    with (
        silent_files(folder, library) as silence,
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(folder / "served")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as traced,
    ):  # fmt: skip
        assert traced.stdin
        assert traced.stdout
        assert traced.stdout.readline() == "ready\n"
        silence()
        record = [*COWTRACE, "record", "-o", str(file), "--interval", "0.2", "--follow"]
        with subprocess.Popen([*record, "-p", str(traced.pid)], stderr=subprocess.PIPE) as running:
            try:
                assert eventually(lambda: file.exists() and len(read(file).times) > 1)
                traced.stdin.write("\n")
                traced.stdin.flush()
                child = int(traced.stdout.readline())
                running.terminate()
                assert running.wait(timeout=PATIENCE) == 0
            finally:
                running.kill()
                traced.kill()
    found = read(file)
    process = found.last.process(child)
    assert process
    assert (process.count(FaultKind.COPIED) or 0) >= PAGES
    assert found.last.completeness.lost == 0
    frames = [frame for row in found.last.samples for frame in row.user_stack or ()]
    assert {frame.symbol for frame in frames if frame.module == "served"} == {"[unknown]"}
