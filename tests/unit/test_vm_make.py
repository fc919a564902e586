"""Build a tree by its own make: the commands, whose they are, and what a failure says."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from made_kernels import tree

from cowtrace.cli import kernels
from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.vm import guest_arch, make

MAKEFILE = """
olddefconfig:
\t@id -u >asked
bzImage: olddefconfig
\t@echo mm/memory.c:1:2: warning: odd
\t@%s
\t@mkdir -p arch/x86/boot && id -u >arch/x86/boot/bzImage
"""


def commands(config: str, *more: str) -> list[list[str]]:
    here = Path("/")  # root's
    return [list(command) for command in make.commands(here, config, more)]


def test_the_image_and_the_modules_of_an_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "native", lambda: guest_arch.ARCHES["amd64"])
    configure, build = commands("CONFIG_X86_64=y\n")
    assert configure == ["make", "olddefconfig"]
    assert build[0] == "make"
    assert build[-1] == "bzImage"
    assert commands("CONFIG_X86_64=y\nCONFIG_MODULES=y\n")[1][-2:] == ["bzImage", "modules"]
    arm64 = commands("CONFIG_ARM64=y\nCONFIG_CC_IS_CLANG=y\n", "V=1")
    assert arm64[0] == ["make", "ARCH=arm64", "LLVM=1", "V=1", "olddefconfig"]
    assert arm64[1][-1] == "Image"


def test_another_users_tree_is_built_as_its_owner(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    made = tree(tmp_path / "linux")
    (made / "Makefile").write_text(MAKEFILE % "true")
    for path in (made, *made.rglob("*")):
        os.chown(path, 65534, 65534)
    for folder in (tmp_path, *tmp_path.parents):  # pytest's folders are private
        if folder.stat().st_mode & stat.S_IXOTH == 0:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    make.build(made, (), tmp_path / "log", lambda line: None)
    assert (made / "asked").read_text() == "65534\n"
    assert (made / "arch/x86/boot/bzImage").read_text() == "65534\n"


def test_a_failure_shows_the_first_error_and_the_log(tmp_path: Path) -> None:
    made = tree(tmp_path / "linux")
    fails = r"printf 'mm/memory.c:7:1: error: \033[31mno such thing\n'; exit 1"
    (made / "Makefile").write_text(MAKEFILE % fails)
    log = tmp_path / "log"
    seen: list[str] = []
    with pytest.raises(
        CowtraceError, match=r"linux does not build: mm/memory\.c:7:1: error"
    ) as caught:
        make.build(made, (), log, seen.append)
    assert "\x1b" not in str(caught.value)
    assert str(log) in caught.value.hint
    assert "warning: odd" in log.read_text()
    assert any("warning: odd" in line for line in seen)


def test_a_folder_without_a_config_is_no_tree(tmp_path: Path) -> None:
    with pytest.raises(CowtraceError, match=r"has no \.config") as caught:
        make.build(tmp_path, (), tmp_path / "log", lambda line: None)
    assert caught.value.exit_code == EXIT_USAGE


def test_how_long_a_build_takes_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = tree(tmp_path / "linux")
    (made / "Makefile").write_text(MAKEFILE % "true")
    kernels.make_tree(str(made), "")
    begun, ended = capsys.readouterr().err.splitlines()
    assert begun.startswith("cowtrace: kernel linux: make (its output: ")
    assert re.fullmatch(r"cowtrace: kernel linux: built, \d+ s", ended)
    kernels.make_tree(str(made / "arch/x86/boot/bzImage"), "")
    assert not capsys.readouterr().err  # an image is what it is
