"""Small C programs, of this folder and others, compiled where they are needed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.variants import Missing


@contextmanager
def compiled(name: str, folder: Path = Path(__file__).parent) -> Iterator[str]:
    """The path of the program until the block ends. Raises Missing."""
    compiler = shutil.which("cc")
    if not compiler:
        raise Missing(f"no C compiler: apt install gcc libc6-dev ({name}.c is compiled)")
    source = folder / f"{name}.c"
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch, name)
        # The smaller a process, the more of them fit, and the fewer faults of its own. The test
        # VM's compiler, tcc, cannot link that.
        for static in (["-static"], []):
            command = [compiler, "-O1", *static, "-o", str(program), str(source)]
            ended = subprocess.run(command, capture_output=True, text=True)
            if ended.returncode == 0:
                break
        else:
            said = ended.stderr.strip().splitlines() or ["no reason given"]
            raise Missing(f"{name}.c does not compile: {said[-1]}")
        yield str(program)
