"""Coverage-guided fuzzing of what reads bytes: `python guided.py TARGET RUNS`, by atheris.

Without arguments it names the targets: see targets.py. Each starts from its corpus; libFuzzer ends
with a traceback, and exit code 77, at the first exception that is no answer and no refusal, and
keeps the input as crash-*, timeout-* or oom-* in the corpus.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "unit")]

with atheris.instrument_imports(include=["cowtrace"], enable_loader_override=False):
    from fuzz import targets


def main(name: str, runs: int) -> None:
    begin = targets.scratch() / "begin"
    begin.mkdir()
    for file, data in targets.inputs(name):
        targets.TARGETS[name](data)
        (begin / file).write_bytes(data)
    options = [f"-runs={runs}", f"-max_len={targets.MOST_BYTES}", "-rss_limit_mb=4096"]
    options += ["-timeout=60", f"-artifact_prefix={targets.CORPUS / name}/", str(begin)]
    atheris.Setup([sys.argv[0], *options], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(sys.argv[1], int(sys.argv[2]))
    print("\n".join(targets.TARGETS))
