"""`cowtrace verify` must notice each way of breaking the plans that see the end of a fault."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mutations import OF_FAULT_ENDS, OF_PATHS, Mutation, check_under

from cowtrace.verify.check import Verdict

PLAN = "kprobe"  # every kernel of the VM allows it; fentry shares the headers that are broken
# Compiling each takes seconds under emulation. What is broken is the same source on every kernel:
# one kernel gets all of them, the others what depends on the kernel's own structs.
THOROUGH = os.environ.get("COWTRACE_KERNEL") == "6.12"
MUTATIONS = (*OF_FAULT_ENDS, *OF_PATHS) if THOROUGH else (*OF_FAULT_ENDS[:1], *OF_PATHS[:1])


@pytest.fixture(scope="module", autouse=True)
def the_source_as_it_is_passes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same checks, so that a failure below comes from the mutation."""
    names = tuple(dict.fromkeys(mutation.caught_by for mutation in MUTATIONS))
    scratch = tmp_path_factory.mktemp("whole")
    made = check_under(PLAN, names, mutation=None, scratch=scratch)
    assert {check.name: check.verdict for check in made} == dict.fromkeys(names, Verdict.HOLDS), [
        check.why for check in made
    ]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_verify_notices(mutation: Mutation, tmp_path: Path) -> None:
    (check,) = check_under(PLAN, (mutation.caught_by,), mutation=mutation, scratch=tmp_path)
    assert check.verdict is Verdict.FAILS, check
    assert check.why
