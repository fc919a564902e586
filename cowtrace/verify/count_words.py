"""Say how two runs of a check differ in what they counted: `6.1 copies 127, 7.2 re-marks them`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cowtrace.model import FaultKind, Source
from cowtrace.verify.check import Check, Count

_PHRASES = {
    FaultKind.COPIED.label: "copies {}",
    FaultKind.FILE_COPIED.label: "copies {} from the file",
    FaultKind.ZERO_FILLED.label: "zero-fills {}",
    FaultKind.REUSED.label: "re-marks {}",
    FaultKind.SHARED.label: "marks {} writable as shared memory",
}
_NOTHING = "has no such fault"
_LARGE = {source.label for source in (Source.HUGETLB, Source.THP)}  # pages of another size
# Of the pages: two runs differ by so many in a count that the kernel may choose.
TOLERANCE = 0.1

_Counts = Mapping[str, Count]  # by kind


@dataclass(frozen=True, slots=True)
class Side:
    """One of two runs of a check, and the name that users read."""

    label: str
    check: Check

    @property
    def roles(self) -> dict[str, dict[str, Count]]:
        """Its counts by role and kind."""
        found: dict[str, dict[str, Count]] = {}
        for count in self.check.counts:
            found.setdefault(count.role, {})[count.kind] = count
        return found


def count_words(one: Side, other: Side) -> Iterator[str]:
    """A sentence for each role whose counts differ; not of counts that one of them cannot see."""
    if one.check.pages is None or other.check.pages is None:  # it did not run
        return
    same_size = one.check.pages == other.check.pages
    roles, others = one.roles, other.roles
    for role in dict.fromkeys((*roles, *others)):
        counts, theirs = roles.get(role, {}), others.get(role, {})
        kinds = [
            kind
            for kind in dict.fromkeys((*counts, *theirs))
            if _differ(counts.get(kind), theirs.get(kind), one.check.pages if same_size else None)
        ]
        if kinds:
            first, second = _phrase(one, counts, theirs), _phrase(other, theirs, counts)
            if _same_pages(counts, theirs):
                second = _phrase(other, theirs, counts, "them")
            yield f"{role}: {one.label} {first}, {other.label} {second}"


def _differ(count: Count | None, other: Count | None, pages: int | None) -> bool:
    """Whether what both saw is not the same. pages: of both; None if they had different ones."""
    seen, theirs = (0 if each is None else each.seen for each in (count, other))
    if seen is None or theirs is None:
        return False
    if bool(seen) != bool(theirs):
        return True
    if count is None or other is None:
        return False
    if _sources_differ(count, other) or _origins_differ(count, other):
        return True
    if pages is None:
        return False
    if count.expected is None or other.expected is None:
        return abs(seen - theirs) > TOLERANCE * pages
    return seen != theirs


def _same_pages(counts: _Counts, others: _Counts) -> bool:
    """Whether the pages that one side treats in one way are those that the other treats so."""
    known, theirs = _known(counts), _known(others)
    return len(known) == len(theirs) == 1 and [*known.values()] == [*theirs.values()]


def _known(counts: _Counts) -> dict[str, int]:
    return {kind: count.seen for kind, count in counts.items() if count.seen}


def _phrase(side: Side, counts: _Counts, others: _Counts, pages: str = "") -> str:
    words = []
    for kind, number in _known(counts).items():
        count, other = counts[kind], others.get(kind)
        phrase = _PHRASES.get(kind, kind + " {}").format(
            pages or _pages(number, count, side.check.pages)
        )
        if other and _sources_differ(count, other):
            phrase += f" ({', '.join(count.sources)})"
        if other and _origins_differ(count, other):
            phrase += f" by {' and '.join(count.origins)}"
        words.append(phrase)
    return " and ".join(words) or _NOTHING


def _sources_differ(count: Count, other: Count) -> bool:
    """A plan may know none."""
    return bool(count.sources and other.sources) and count.sources != other.sources


def _origins_differ(count: Count, other: Count) -> bool:
    return bool(count.origins and other.origins) and count.origins != other.origins


def _pages(number: int, count: Count, of: int | None) -> str:
    large = not _LARGE.isdisjoint(count.sources)
    if of is not None and (number == of or (number < of and not large)):
        return f"{number:,} of {of:,} pages"
    return f"{number:,} page" if number == 1 else f"{number:,} pages"
