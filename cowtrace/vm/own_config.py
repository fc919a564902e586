"""Find the configuration of a kernel that a path names, and the options that it lacks."""

from __future__ import annotations

from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.vm import kconfig, kernel_image
from cowtrace.vm.guest_arch import ARCHES
from cowtrace.vm.own_kernel import Parts, find, module_name, modules_of_tree

_MOST_BYTES = 4 << 20


def config_of(parts: Parts, image: kernel_image.KernelImage) -> str | None:
    """The text of its .config; None if it is not known."""
    return text_of(parts.config) if parts.config else image.config()


def text_of(config: Path) -> str:
    """A .config, bounded. Raises CowtraceError if it cannot be read."""
    return kernel_image.bounded(config, _MOST_BYTES).decode(errors="replace")


def lacking(path: Path) -> tuple[kconfig.Option, ...]:
    """The options that a kernel lacks; its tree need not be built yet.

    Raises CowtraceError if there is no kernel, or its configuration is unknown.
    """
    if (path / ".config").is_file():
        config = text_of(path / ".config")
        arm64 = "CONFIG_ARM64" in kconfig.set_options(config)
        arch, modules = ARCHES["arm64" if arm64 else "amd64"], modules_of_tree(path)[0]
        return kconfig.missing(config, arch, frozenset(map(module_name, modules)))
    parts = find(path)
    image = kernel_image.read(parts.image)
    if known := config_of(parts, image):
        return kconfig.missing(known, image.arch)
    raise CowtraceError(
        f"the configuration of {parts.name} is not known: it has no CONFIG_IKCONFIG",
        hint="name the tree in which it was built, or put config-RELEASE beside vmlinuz-RELEASE",
    )
