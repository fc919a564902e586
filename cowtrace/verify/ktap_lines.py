"""Write KTAP, version 1, line by line: nested lists of tests, whose length is known beforehand.

The format: Documentation/dev-tools/ktap.rst of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cowtrace.text import printable

SKIP = "SKIP"  # a directive begins with it, and has the reason


class Tests:
    """An open list of tests. Each test is written as soon as it is known."""

    def __init__(
        self, write: Callable[[str], object], planned: int, name: str = "", depth: int = 0
    ) -> None:
        """write: gets whole lines. planned: how many tests the list will have."""
        self.name = name
        self.ok = True  # none of its tests failed
        self.directive = ""  # SKIP, if each test was skipped
        self._write, self._depth = write, depth
        self._made = self._seen = 0
        self._line("KTAP version 1")
        if name:
            self._line(f"# Subtest: {_name(name)}")
        self._line(f"1..{planned}")

    def test(
        self,
        name: str,
        *,
        ok: bool = True,
        directive: str = "",
        notes: Iterable[str] = (),
        of_checks: bool = True,
    ) -> None:
        """Write the result of the next test.

        directive: SKIP or ERROR, and the reason. notes: diagnostic lines. of_checks=False: the
        test says nothing of whether the others were skipped.
        """
        self._made += 1
        self.ok = self.ok and ok
        if of_checks:
            self._seen += not directive.startswith(SKIP)
            self.directive = "" if self._seen else f"{SKIP} all of it"
        for note in notes:
            self._line(f"# {printable(note)}")
        result = "ok" if ok else "not ok"
        reason = f" # {printable(directive)}" if directive else ""
        self._line(f"{result} {self._made} {_name(name)}{reason}")

    def open(self, name: str, planned: int) -> Tests:
        """The list of the next test, which is itself a list. `close` it before the next test."""
        return Tests(self._write, planned, name, self._depth + 1)

    def close(self, tests: Tests, notes: Iterable[str] = (), *, of_checks: bool = True) -> None:
        """Write the result of an opened list: not ok if one of its tests is not."""
        skipped = tests.directive if tests.ok else ""
        self.test(tests.name, ok=tests.ok, directive=skipped, notes=notes, of_checks=of_checks)

    def _line(self, words: str) -> None:
        self._write(f"{'  ' * self._depth}{words}\n")


def _name(raw: str) -> str:
    """A description has no `#`."""
    return printable(raw).replace("#", "\\x23")
