"""The options that a kernel of the VM needs: print them as a fragment, find those that it lacks.

vagrant/kernel.config holds them in sections, each line's reason above it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cowtrace.shipped import vagrant_dir
from cowtrace.vm.guest_arch import Arch

# Sections without which a kernel cannot boot; the others cost a plan, or rows.
NEEDED = ("boot", "disks")
_SET = re.compile(r"(CONFIG_\w+)=(y|m)")
_LINE = re.compile(r"(CONFIG_\w+)=y(?: \[(\w+)\])?")
_SECTION = re.compile(r"### (\w+): (.+)")
_UNCHECKED = "unchecked"  # a kernel without the option may do: other versions have no such option


@dataclass(frozen=True, slots=True)
class Option:
    """One line of the fragment."""

    name: str  # CONFIG_VIRTIO_BLK
    section: str
    what: str  # that its section is for

    @property
    def line(self) -> str:
        return f"{self.name}=y"


def set_options(config: str) -> dict[str, str]:
    """Options that a .config sets to y or m."""
    lines = map(_SET.fullmatch, config.splitlines())
    return {found[1]: found[2] for found in lines if found}


def fragment(arch: Arch) -> tuple[str, ...]:
    """Lines for scripts/kconfig/merge_config.sh, with comments, for this architecture."""
    return tuple(line for line, _ in _lines(arch))


def options(arch: Arch) -> tuple[Option, ...]:
    """The options of the fragment that every kernel must have, in its order."""
    found = []
    section = what = ""
    for line, checked in _lines(arch):
        if head := _SECTION.fullmatch(line):
            section, what = head.groups()
        elif checked:
            found.append(Option(line.removesuffix("=y"), section, what))
    return tuple(found)


def missing(config: str, arch: Arch, modules: frozenset[str] = frozenset()) -> tuple[Option, ...]:
    """The options that this .config lacks, or has as a module that is not one of `modules`."""
    have = set_options(config)
    return tuple(
        option
        for option in options(arch)
        if have.get(option.name) != "y"
        and not (have.get(option.name) == "m" and _modules_of(option.name) & modules)
    )


def lines_to_add(lacking: Sequence[Option]) -> str:
    """The lines to add to .config, for a message."""
    return ", ".join(option.line for option in lacking)


def _lines(arch: Arch) -> Iterator[tuple[str, bool]]:
    """Each line for this architecture, and whether every kernel must have its option."""
    for line in (vagrant_dir() / "kernel.config").read_text().splitlines():
        if not (found := _LINE.fullmatch(line)):
            yield line, False
        elif found[2] in (None, _UNCHECKED, arch.machine):
            yield f"{found[1]}=y", found[2] != _UNCHECKED


def _modules_of(name: str) -> frozenset[str]:
    """The names that a module of this option can have: ext4 for CONFIG_EXT4_FS."""
    plain = name.removeprefix("CONFIG_").lower()
    return frozenset((plain, plain.removesuffix("_fs")))
