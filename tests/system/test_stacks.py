"""`cowtrace stacks` names the code of a program without frame pointers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from command import COWTRACE, PATIENCE, PROGRESS, eventually, is_confined

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("can_trace")]

# Waits for a line, then a child copies 1,009 pages in one function and 503 in another. With
# "turns", it copies 16,411 in each of two, by turns.
WRITER = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#define PAGE 4096
static char *memory;
__attribute__((noipa)) static void write_pages(int from, int to)
{
	for (int i = from; i < to; i++)
		memory[(size_t)i * PAGE]++;
}
__attribute__((noipa)) void collect_garbage(void) { write_pages(0, 1009); asm(""); }
__attribute__((noipa)) void count_references(void) { write_pages(1009, 1512); asm(""); }
__attribute__((noipa)) void even_page(int i) { write_pages(i, i + 1); asm(""); }
__attribute__((noipa)) void odd_page(int i) { write_pages(i, i + 1); asm(""); }
int main(int argc, char **argv)
{
	int turns = argc > 1 && !strcmp(argv[1], "turns"), pages = turns ? 2 * 16411 : 1512;
	memory = aligned_alloc(PAGE, (size_t)pages * PAGE);
	write_pages(0, pages);
	puts("ready");
	fflush(stdout);
	getchar();
	pid_t child = fork();
	if (!child) {
		if (turns) {
			for (int i = 0; i < pages; i += 2) {
				even_page(i);
				odd_page(i + 1);
			}
		} else {
			collect_garbage();
			count_references();
		}
		puts("written");
		fflush(stdout);
		getchar();
		_exit(0);
	}
	waitpid(child, NULL, 0);
	return 0;
}
"""


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as distributions do: optimised, without frame pointers, with its symbols."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: the stacks of a program without frame pointers")
    folder = tmp_path_factory.mktemp("writer")
    (folder / "writer.c").write_text(WRITER)
    built = folder / "writer"
    options = ["-O2", "-fomit-frame-pointer", "-o", str(built)]
    subprocess.run([compiler, *options, str(folder / "writer.c")], check=True)
    return built


def test_stacks_name_the_code_that_writes(writer: Path, tmp_path: Path) -> None:
    pages = copied_by(("collect_garbage", "count_references"), [writer], tmp_path)
    # Samples stand for all copies up to them: those after the last are not in it.
    assert abs(pages["collect_garbage"] - 1009) < 64, pages
    assert abs(pages["count_references"] - 503) < 64, pages


def test_functions_that_copy_by_turns_get_their_shares(writer: Path, tmp_path: Path) -> None:
    """Of some 300 samples: with constant steps, all but the first are of the same function."""
    pages = copied_by(("even_page", "odd_page"), [writer, "turns"], tmp_path)
    whole = pages["even_page"] + pages["odd_page"]
    # A sample stands for some 1,000 copies in the end, and those after the last are missing.
    assert whole == pytest.approx(2 * 16411, rel=0.2), pages
    assert 0.3 < pages["even_page"] / whole < 0.7, pages


def copied_by(names: tuple[str, ...], command: list[Path | str], folder: Path) -> dict[str, int]:
    """The pages that each of these functions copied, by `cowtrace stacks`."""
    out = folder / "stacks.folded"
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as traced:
        assert traced.stdin
        assert traced.stdout
        assert traced.stdout.readline() == "ready\n"
        # Each CPU has copies that no sample stands for yet.
        os.sched_setaffinity(traced.pid, {max(os.sched_getaffinity(0))})
        arguments = ["-p", str(traced.pid), "--follow", "-o", str(out), "0.5"]
        with subprocess.Popen(
            [*COWTRACE, "stacks", *arguments], stderr=subprocess.PIPE, text=True
        ) as stacks:
            assert eventually(lambda: is_confined(stacks.pid)), "cowtrace has not attached"
            traced.stdin.write("\n")
            traced.stdin.flush()
            assert traced.stdout.readline() == "written\n"
            stacks.terminate()  # while the writer's functions can still be named
            assert stacks.stderr
            # On a busy machine compiling takes long enough for the progress line.
            assert set(stacks.stderr.read().splitlines()) <= {PROGRESS}
            assert stacks.wait(timeout=PATIENCE) == 0
        traced.communicate("\n", timeout=PATIENCE)
    pages = dict.fromkeys(names, 0)
    for line in out.read_text().splitlines():
        stack, _, copied = line.rpartition(" ")
        frames = stack.split(";")
        for name in pages:
            if f"{name} (writer)" in frames:
                assert frames[0] == "writer"
                assert frames.index("main (writer)") < frames.index(f"{name} (writer)")
                assert frames[-1] == "write_pages (writer)"
                pages[name] += int(copied) // os.sysconf("SC_PAGESIZE")
    return pages
