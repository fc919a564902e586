"""Compare checks with those of an earlier run: what appeared, vanished, or changed. No I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from cowtrace.verify.differences import Difference, differences
from cowtrace.verify.matrix import KernelChecks

LABELS = ("before", "now")  # of one kernel
_RELEASED = 1 << 30  # sorts a release behind its candidates


@dataclass(frozen=True, slots=True)
class Since:
    """What changed on one kernel."""

    kernel: KernelChecks
    before: KernelChecks  # of the same name; or the nearest that the earlier run had
    differences: tuple[Difference, ...]

    @property
    def worse(self) -> bool:
        """Whether something is a reason for CI to fail."""
        return any(each.worse for each in self.differences)


def since(
    before: Sequence[KernelChecks],
    now: Iterable[KernelChecks],
    groups: Collection[str] | None = None,
) -> tuple[Since, ...]:
    """Each kernel, compared with the one of its name; a new one with the nearest older one.

    groups: those that this run checked; None: all. What it did not check has not vanished.
    """
    found = []
    for one in now:
        earlier = counterpart(before, one)
        if earlier is None:
            continue
        known = [check for check in earlier.checks if groups is None or check.group in groups]
        names = (earlier.kernel, one.kernel)
        labels = LABELS if names[0] == names[1] else names
        found.append(Since(one, earlier, differences(known, one.checks, labels)))
    return tuple(found)


def counterpart(before: Sequence[KernelChecks], kernel: KernelChecks) -> KernelChecks | None:
    """The kernel to compare with: of the same name; or the newest that is not newer than it.

    Where all are newer, the oldest of them.
    """
    for each in before:
        if each.kernel == kernel.kernel:
            return each
    in_order = sorted(before, key=lambda each: _age(each.release))
    older = [each for each in in_order if _age(each.release) <= _age(kernel.release)]
    return older[-1] if older else in_order[0] if in_order else None


def updated(
    before: Sequence[KernelChecks],
    now: Iterable[KernelChecks],
    groups: Collection[str] | None = None,
) -> tuple[KernelChecks, ...]:
    """The earlier results, with those of this run in their place; what it did not check stays."""
    kernels = {each.kernel: each for each in before}
    for one in now:
        earlier = kernels.get(one.kernel)
        kept = earlier.checks if earlier and groups is not None else ()
        others = tuple(check for check in kept if check.group not in (groups or ()))
        kernels[one.kernel] = replace(one, checks=(*others, *one.checks))
    return tuple(kernels.values())


def _age(release: str) -> tuple[int, ...]:
    """Orders releases: 6.1.0-50, 6.12.117, 7.3-rc1, 7.3-rc2, 7.3."""
    numbers = re.match(r"(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?", release)
    candidate = re.search(r"-rc(\d{1,9})", release)
    return (
        *(int(each or 0) for each in (numbers.groups() if numbers else ())),
        int(candidate[1]) if candidate else _RELEASED,
    )
