"""text.py and numbers.py: hostile names, and widths that never grow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cowtrace.numbers import WIDTH, count, duration, percent, size
from cowtrace.text import COLUMNS, fit, padded, printable, wrap


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("redis-server", "redis-server"),
        ("kworker/0:1", "kworker/0:1"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b31m", r"\x9b31m"),  # CSI in one character
        ("a\nb\tc\rd\x07", r"a\x0ab\x09c\x0dd\x07"),
        ("\u202egnp.exe", r"\u202egnp.exe"),  # right-to-left override
        ("\u2066x\u2069", r"\u2066x\u2069"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("\u05d0\u0627", r"\u05d0\u0627"),  # letters that reorder the numbers beside them
        ("\udcff\udc80", r"\xff\x80"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
        ("日本", "日本"),
        ("naïve", "naïve"),
    ],
)
def test_what_could_act_becomes_visible(raw: str, shown: str) -> None:
    assert printable(raw) == shown


@given(st.text())
def test_only_printable_characters_remain(raw: str) -> None:
    assert printable(raw).isprintable()


@given(st.text(), st.integers(2, 20))
def test_fit_never_exceeds_its_cells(raw: str, cells: int) -> None:
    assert cell_len(fit(printable(raw), cells)) <= cells


def test_fit_shows_that_it_cut() -> None:
    assert fit("a-rather-long-name", 8) == "a-rathe…"
    assert fit("日本語日本語", 6) == "日本…"


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (None, "-"),
        (0, "0"),
        (999, "999"),
        (1_000, "1,000"),
        (999_999, "999,999"),
        (1_000_000, "1.00M"),
        (12_345_678, "12.3M"),
        (999_400_000, "999M"),
        (999_600_000, "1.00G"),
        (2**64 - 1, "18.4E"),
    ],
)
def test_counts(number: int | None, shown: str) -> None:
    assert count(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (None, "-"),
        (0, "0"),
        (0.2, "0"),
        (512, "512B"),
        (1023, "1023B"),
        (1024, "1.00KiB"),
        (4096 * 10_000, "39.1MiB"),
        (1023 * 1024, "1023KiB"),
        (1024 * 1024 - 1, "1.00MiB"),
        (2**64 - 1, "16.0EiB"),
    ],
)
def test_sizes(number: float | None, shown: str) -> None:
    assert size(number) == shown


def test_size_in_prose() -> None:
    assert size(4096 * 10_000, " ") == "39.1 MiB"


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (4.2, "4.20 ns"),
        (999.7, "1.00 µs"),
        (2710, "2.71 µs"),
        (13.4e6, "13.4 ms"),
        (75e9, "75.0 s"),
    ],
)
def test_durations(nanoseconds: float, shown: str) -> None:
    assert duration(nanoseconds) == shown


@given(st.integers(-99_999, 10**30))
def test_a_number_never_widens_its_column(number: int) -> None:
    assert len(count(number)) <= WIDTH
    assert len(size(max(0, number))) <= WIDTH


@given(st.floats(0, 1e30))
def test_a_rate_never_widens_its_column(rate: float) -> None:
    assert len(size(rate)) <= WIDTH


@given(st.integers(0, 10**20))
def test_shown_counts_are_right_to_three_digits(number: int) -> None:
    shown = count(number).replace(",", "")
    units = {"M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
    value = float(shown[:-1]) * units[shown[-1]] if shown[-1] in units else float(shown)
    assert value == pytest.approx(number, rel=0.006)


@given(st.text(), st.integers(2, 60))
def test_padded_takes_just_its_cells(raw: str, cells: int) -> None:
    assert cell_len(padded(printable(raw), cells)) == cells


@given(st.text(st.sampled_from("a b-\u6f22\u0301")), st.sampled_from(["", "    "]))
def test_wrapped_lines_fit_and_lose_no_letter(raw: str, first: str) -> None:
    lines = wrap(raw, first, "  ").split("\n")
    assert max(map(cell_len, lines)) <= COLUMNS
    assert "".join("".join(lines).split()) == "".join(raw.split())


def test_only_a_word_of_more_than_a_line_is_broken() -> None:
    assert wrap(f"{'a' * 50} {'b-c' * 10} d") == f"{'a' * 50}\n{'b-c' * 10} d"
    assert wrap("b" * 79, "    ", "  ") == f"    {'b' * 76}\n  bbb"
    assert wrap("a " + "b" * 100, "! ", "  ") == f"! a\n  {'b' * 78}\n  {'b' * 22}"


def test_100_percent_is_not_said_of_less() -> None:
    assert [percent(share) for share in (None, 0.0, 0.9949, 0.997, 0.9995, 1.0)] == [
        "-", "0.0%", "99.5%", "99.7%", "100%", "100%",
    ]  # fmt: skip
