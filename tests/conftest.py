"""Select the tests that run here, sort those that must run last, and fail skips in the test VM.

Markers: `host`: runs on this machine's kernel. `vm`: runs on the kernels of the test VM. `last`:
runs after all others. `alone`: keeps all CPUs busy, so that `make test` runs it beside no VM.
`spread("6.1")`: with --spread, runs on these kernels of the VM only; `spread` without a kernel: on
none, since this machine's kernel proves it. `x86_64`: for this architecture alone.

A test is spread if it depends on cowtrace's own code more than on the kernel: commands, containers,
the exporter, applications. One or two kernels prove it, which are chosen so that all four take
equally long. `make test` passes --spread, to this machine's kernel as well: what it alone proves
must not be skipped. Without --spread (`make test-all`, `make test-vm`) every kernel runs all tests;
but 6.12 alone breaks bpf/ in every way: see test_mutations.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator

import hypothesis
import pytest

from cowtrace import tracer
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.tracer import symbolizer

# Set by `cowtrace vm run`.
IN_VM = os.environ.get("COWTRACE_VM") == "1"
KERNEL = os.environ.get("COWTRACE_KERNEL")

# Started in the background, or by nohup, they are ignored, and so by all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

hypothesis.settings.register_profile("cowtrace", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("cowtrace")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--spread", action="store_true", help="obey the marker spread")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests for other kernels; sort those marked `last` to the end."""
    here, other = ("vm", "host") if IN_VM else ("host", "vm")
    chosen: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        runs = item.get_closest_marker(here) or not item.get_closest_marker(other)
        spread = item.get_closest_marker("spread")
        if IN_VM and spread and config.getoption("--spread"):
            runs = runs and KERNEL in spread.args
        if item.get_closest_marker("x86_64"):
            runs = runs and os.uname().machine == "x86_64"
        (chosen if runs else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = sorted(chosen, key=lambda item: item.get_closest_marker("last") is not None)


def pytest_collection_finish() -> None:
    """What was imported stays: no garbage collection of a test need look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _room_for_names() -> None:
    """What cowtrace and its symbolizer may take together, pytest and all tests take alone.

    With the least room, the symbolizer is started anew for each stack that needs more.
    """
    symbolizer._TOGETHER_BYTES = 2 << 40


@pytest.fixture(scope="session")
def can_trace() -> None:
    """Skip, with the reason, where no plan runs."""
    if os.geteuid() != 0:
        pytest.skip("tracing needs root")
    try:
        tracer.attach("auto").close()
    except CowtraceError as error:
        if error.exit_code != EXIT_NO_PLAN:
            raise
        pytest.skip(f"this machine: {error}")


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport, where: str) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped {where}: {reason}"


_WHERE_ALL_IS = "in the test VM, where all that tests need is installed"


def _runs_here_alone(item: pytest.Item) -> bool:
    """Whether no other kernel of `make test` runs it."""
    spread = item.get_closest_marker("spread")
    return bool(item.config.getoption("--spread") and spread and not spread.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if IN_VM:
        _refuse_skip(report, _WHERE_ALL_IS)
    elif _runs_here_alone(item):
        _refuse_skip(report, "on the only kernel that `make test` runs it on")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if IN_VM:
        _refuse_skip(report, _WHERE_ALL_IS)
    return report
