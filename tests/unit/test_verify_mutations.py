"""The mutations that the kernel tests make: each still finds its place in bpf/."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mutations import OF_FAULT_ENDS, OF_PATHS, OF_PTE_CHANGES, OF_TRACEPOINTS, Mutation

from cowtrace.shipped import bpf_dir
from cowtrace.workloads.workload import WORKLOADS

ALL = (*OF_FAULT_ENDS, *OF_PATHS, *OF_PTE_CHANGES, *OF_TRACEPOINTS)


@pytest.mark.parametrize("mutation", ALL, ids=lambda mutation: f"{mutation.file} {mutation.name}")
def test_it_changes_the_source(mutation: Mutation, tmp_path: Path) -> None:
    folder = tmp_path / "bpf"
    shutil.copytree(bpf_dir(), folder)
    mutation.apply(folder)
    assert (folder / mutation.file).read_text() != (bpf_dir() / mutation.file).read_text()
    assert mutation.caught_by in WORKLOADS


def test_one_that_finds_nothing_fails(tmp_path: Path) -> None:
    folder = tmp_path / "bpf"
    shutil.copytree(bpf_dir(), folder)
    lost = Mutation("nothing", "count.h", "no such text", "", "fork-child-writes")
    with pytest.raises(pytest.fail.Exception, match="nothing: 0 times"):
        lost.apply(folder)
