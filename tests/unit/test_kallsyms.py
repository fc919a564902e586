"""Kernel symbols are looked up once a boot, and not kept where their addresses are hidden."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowtrace.kernel import kallsyms

TEXT = b"""\
ffffffff81000000 T do_wp_page
ffffffff81000100 t do_wp_page.cold
ffffffff81000200 t wp_page_copy.isra.0
ffffffff81000300 D huge_zero_pfn
"""
HIDDEN = b"0000000000000000 T do_wp_page\n"
NAMES = ("do_wp_page", "wp_page_copy", "huge_zero_pfn")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_only_plain_names_count(tmp_path: Path) -> None:
    (tmp_path / "kallsyms").write_bytes(TEXT)
    assert kallsyms.read_kallsyms(NAMES, tmp_path / "kallsyms") == {
        "do_wp_page": 0xFFFFFFFF81000000,
        "huge_zero_pfn": 0xFFFFFFFF81000300,
    }


@pytest.mark.parametrize(("name", "address"), [("wp_page_copy.*", 0xFFFFFFFF81000200),
                                              ("do_wp_page.*", None)])  # fmt: skip
def test_a_variant_that_the_compiler_made(name: str, address: int | None, tmp_path: Path) -> None:
    (tmp_path / "kallsyms").write_bytes(TEXT)
    assert kallsyms.read_kallsyms((name,), tmp_path / "kallsyms").get(name) == address


@pytest.mark.parametrize(("text", "looked_up"), [(TEXT, 1), (HIDDEN, 2)])
def test_looked_up_once_unless_hidden(
    text: bytes, looked_up: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kallsyms").write_bytes(text)
    asked = []

    def look_up(names: tuple[str, ...]) -> dict[str, int]:
        asked.append(names)
        return original(names, tmp_path / "kallsyms")

    original = kallsyms.read_kallsyms
    monkeypatch.setattr(kallsyms, "read_kallsyms", look_up)
    assert kallsyms.symbols(NAMES) == kallsyms.symbols(NAMES)
    assert len(asked) == looked_up
