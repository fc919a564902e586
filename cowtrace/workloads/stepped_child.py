"""Fork a child that acts only when its parent requests it, one action at a time, through pipes.

Only one process runs at any moment, so the order of all writes is exact.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from collections.abc import Callable
from typing import IO, Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar

from cowtrace.errors import CowtraceError
from cowtrace.workloads.features import Unsupported

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")


class Child(Generic[A]):
    """The parent's side. The child calls `make`; each action gets the object that it returned."""

    def __init__(self, make: Callable[[], A]) -> None:
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(request_write)
            os.close(answer_read)
            _serve(make, os.fdopen(request_read, "rb"), os.fdopen(answer_write, "wb"))
        os.close(request_read)
        os.close(answer_write)
        self._requests = os.fdopen(request_write, "wb", buffering=0)
        self._answers = os.fdopen(answer_read, "rb")
        self._status: int | None = None

    def do(self, action: Callable[Concatenate[A, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Have the child call `action`, wait, and return its result.

        `action` must be a function of a module or class: it is pickled by name. Raises
        CowtraceError with the child's own failure, or when the child was killed.
        """
        try:
            self._requests.write(pickle.dumps((action, args, kwargs)))
            result, failure = pickle.load(self._answers)
        except (BrokenPipeError, EOFError) as error:
            code = self._wait()
            how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            raise CowtraceError(
                f"process {self.pid} of the workload ended too early: {how}",
                hint="if memory ran out, take fewer pages: --pages",
            ) from error
        if failure is not None:
            kind, message, hint = failure
            raise kind(message, hint=hint)
        answer: R = result
        return answer

    def close(self) -> None:
        """Let the child exit, and wait until its memory is freed. May be called twice."""
        if not self._requests.closed:
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                self._requests.write(pickle.dumps(None))
            self._requests.close()
            self._answers.close()
        self._wait()

    def _wait(self) -> int:
        if self._status is None:
            _, self._status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(self._status)


def run_victim(action: Callable[[], None], before: Callable[[int], None]) -> tuple[int, int]:
    """Fork a child that may be killed by its action: its PID, and the signal that killed it or 0.

    `before` is called with the PID; the child acts when it has returned.
    """
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go_write)
            for fatal in (signal.SIGBUS, signal.SIGSEGV):
                signal.signal(fatal, signal.SIG_DFL)
            os.read(go_read, 1)
            action()
        finally:
            os._exit(0)
    os.close(go_read)
    before(pid)
    os.close(go_write)
    _, status = os.waitpid(pid, 0)
    return pid, os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _serve(make: Callable[[], Any], requests: IO[bytes], answers: IO[bytes]) -> NoReturn:
    """The child: answer requests until the last one, or until the parent is gone. Never returns."""
    try:
        actor = make()
        while (request := pickle.load(requests)) is not None:
            action, args, kwargs = request
            answer: tuple[object, tuple[type[CowtraceError], str, str] | None]
            try:
                answer = (action(actor, *args, **kwargs), None)
            except CowtraceError as error:
                kind = Unsupported if isinstance(error, Unsupported) else CowtraceError
                answer = (None, (kind, str(error), error.hint))
            except Exception as error:
                message = f"in process {os.getpid()}: {error!r}"
                answer = (None, (CowtraceError, message, "please report this"))
            answers.write(pickle.dumps(answer))
            answers.flush()
        os._exit(0)
    finally:  # never unwind into the parent's code
        os._exit(1)
