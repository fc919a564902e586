"""What is kept in files comes back, and files are not trusted blindly."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowtrace import cache

DATA = b"23 bytes, or about that"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def stored() -> Path:
    cache.write("key", DATA)
    return cache.folder() / "key"


def test_what_is_kept_comes_back_and_is_for_its_owner_only() -> None:
    path = stored()
    assert cache.read("key") == DATA
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]  # nothing half-written beside it
    assert cache.read("another key") is None


@given(st.integers(min_value=0), st.integers(0, 7))
def test_a_changed_bit_is_noticed(at: int, bit: int) -> None:
    path = stored()
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    assert cache.read("key") is None


@given(st.integers(min_value=0))
def test_a_part_of_it_is_no_use(length: int) -> None:
    path = stored()
    data = path.read_bytes()
    path.write_bytes(data[: length % len(data)])
    assert cache.read("key") is None


def test_one_key_does_not_answer_for_another() -> None:
    stored().rename(cache.folder() / "other")
    assert cache.read("other") is None


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o660])
def test_a_file_that_others_can_get_at_is_not_taken(mode: int) -> None:
    stored().chmod(mode)
    assert cache.read("key") is None


def test_a_file_of_another_user_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    stored()
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    assert cache.read("key") is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path = stored()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.read("key") is None


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.write("key", DATA)
    cache.forget("key")
    assert cache.read("key") is None


def test_those_unused_for_longest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 5
    monkeypatch.setattr(cache, "_MOST_FILES", most)
    names = [f"{number:064x}" for number in range(most + 5)]
    for number, name in enumerate(names[:-1]):
        cache.write(name, DATA)
        os.utime(cache.folder() / name, (number, number))
    assert cache.read(names[4]) == DATA  # used again
    cache.write(names[-1], DATA)
    left = {path.name for path in cache.folder().iterdir()}
    assert len(left) == most
    assert {names[4], *names[-2:]} <= left
    assert names[5] not in left


def test_what_is_not_cowtraces_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MOST_FILES", 5)
    stored()
    others = {f"photo {number}" for number in range(9)}
    for name in others:
        (cache.folder() / name).touch()
    cache.write("0" * 64, DATA)
    assert others <= {path.name for path in cache.folder().iterdir()}


def theirs(path: Path, mode: int = 0o755) -> None:
    """Give a folder to another user, as `sudo -E` finds one in that user's home."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    path.mkdir(mode=mode, exist_ok=True)
    path.chmod(mode)
    os.chown(path, 65534, 65534)


def test_a_folder_of_another_user_is_neither_read_nor_written_nor_pruned(tmp_path: Path) -> None:
    stored()
    before = sorted(tmp_path.rglob("*"))
    theirs(tmp_path)
    assert cache.read("key") is None
    cache.write("other", DATA)
    cache.forget("key")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("place", [".", "cowtrace", "cowtrace/programs"])
def test_a_folder_that_another_user_can_change_is_none(place: str, tmp_path: Path) -> None:
    stored()
    (tmp_path / place).chmod(0o777)
    assert cache.read("key") is None
    (tmp_path / place).chmod(0o755)
    assert cache.read("key") == DATA


def test_a_link_of_another_user_leads_nowhere(tmp_path: Path) -> None:
    stored()
    (tmp_path / "cowtrace").rename(tmp_path / "elsewhere")
    (tmp_path / "cowtrace").symlink_to(tmp_path / "elsewhere")
    assert cache.read("key") == DATA  # one's own
    if os.geteuid() == 0:
        os.lchown(tmp_path / "cowtrace", 65534, 65534)
        assert cache.read("key") is None
        cache.write("other", DATA)
        assert not (tmp_path / "elsewhere" / "programs" / "other").exists()


def test_nothing_is_created_in_a_folder_of_another_user(tmp_path: Path) -> None:
    theirs(tmp_path)
    cache.write("key", DATA)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_the_users_private_group_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the umask is 002."""
    stored()
    tmp_path.chmod(0o775)
    user = SimpleNamespace(pw_name="me", pw_dir="/")
    groups = [SimpleNamespace(gr_name="me", gr_mem=[]), SimpleNamespace(gr_name="we", gr_mem=[])]
    groups.append(SimpleNamespace(gr_name="me", gr_mem=["me", "you"]))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: user)
    found = []
    for group in groups:
        monkeypatch.setattr(grp, "getgrgid", lambda _, group=group: group)
        found.append(cache.read("key"))
    assert found == [DATA, None, None]


def test_a_key_depends_on_every_part_and_where_it_ends() -> None:
    assert len({cache.key("a", "bc"), cache.key("ab", "c"), cache.key("a", "b", "c")}) == 3


def test_a_key_depends_on_each_part_of_the_kernels_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian rebuilds a release: its version then has another date."""
    name = SimpleNamespace(release="6.12", version="#1 SMP 2026-11-01", machine="x86_64")
    others = ({"release": "6.13"}, {"version": "#1 SMP 2026-11-02"}, {"machine": "aarch64"})
    keys = set()
    for change in ({}, *others):
        found = SimpleNamespace(**(vars(name) | change))
        monkeypatch.setattr(os, "uname", lambda found=found: found)
        keys.add(cache.key("a"))
    assert len(keys) == 4
