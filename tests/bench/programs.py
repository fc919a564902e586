"""The small C programs of this folder, compiled where they are needed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.variants import Missing


@contextmanager
def compiled(name: str) -> Iterator[str]:
    """The path of the program until the block ends. Raises Missing."""
    compiler = shutil.which("cc") or shutil.which("tcc")  # the test VM has the second
    if not compiler:
        raise Missing(f"no C compiler: apt install gcc libc6-dev ({name}.c is compiled)")
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch, name)
        command = [compiler, "-O1", "-o", str(program)]
        if Path(compiler).name == "cc":
            # The smaller a process, the more of them fit, and the fewer faults of its own.
            command.append("-static")
        source = Path(__file__).with_name(f"{name}.c")
        ended = subprocess.run([*command, str(source)], capture_output=True, text=True)
        if ended.returncode:
            said = ended.stderr.strip().splitlines() or ["no reason given"]
            raise Missing(f"{name}.c does not compile: {said[-1]}")
        yield str(program)
