"""`cowtrace verify` must notice each way of breaking the tracepoint plan, on this kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mutations import OF_TRACEPOINTS, Mutation, check_under

from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.tracer import ledger
from cowtrace.verify.check import Check, Verdict


def checks_or_skip(names: tuple[str, ...], mutation: Mutation | None, scratch: Path) -> list[Check]:
    if os.geteuid() != 0:
        pytest.skip("tracing needs root")
    try:
        return check_under("tracepoint", names, mutation=mutation, scratch=scratch)
    except CowtraceError as error:
        if error.exit_code != EXIT_NO_PLAN or mutation:  # what is broken must still load
            raise
        pytest.skip(f"this machine: {error}")


@pytest.fixture(scope="module", autouse=True)
def the_source_as_it_is_passes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same checks, so that a failure below comes from the mutation."""
    names = tuple(dict.fromkeys(mutation.caught_by for mutation in OF_TRACEPOINTS))
    made = checks_or_skip(names, None, tmp_path_factory.mktemp("whole"))
    assert {check.name: check.verdict for check in made} == dict.fromkeys(names, Verdict.HOLDS), [
        check.why for check in made
    ]


@pytest.mark.parametrize("mutation", OF_TRACEPOINTS, ids=lambda mutation: mutation.name)
def test_verify_notices(mutation: Mutation, tmp_path: Path) -> None:
    (check,) = checks_or_skip((mutation.caught_by,), mutation, tmp_path)
    assert check.verdict is Verdict.FAILS, check
    assert check.why


def test_verify_notices_copies_that_are_not_taken_back_from_the_reused_pages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ledger, "_take_back", lambda rows: None)
    (check,) = checks_or_skip(("fork-child-writes",), None, tmp_path)
    assert check.verdict is Verdict.FAILS, check
    assert "reused" in check.why
