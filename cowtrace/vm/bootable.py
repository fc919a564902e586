"""What is booted, and on which machine: a kernel with its root image, and QEMU's options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cowtrace.vm import build, guest_arch
from cowtrace.vm.definition import Definition


@dataclass(frozen=True, slots=True)
class Bootable:
    """A kernel and its root image, both built."""

    name: str  # for users
    kernel: Path  # folder with vmlinuz and initrd
    root: Path  # folder with the root image
    arch: guest_arch.Arch
    cpu: str  # -cpu without KVM
    btf: Path | None = None  # type information that the kernel itself does not show
    own: bool = False  # named by a path: it changes with each build, so no state of it is saved


def built(definition: Definition, name: str) -> Bootable:
    """A kernel of the definition, whose images are built."""
    item = definition.kernel(name)
    place, root = (artifact.place for artifact in build.artifacts_of(definition, item))
    return Bootable(name, place, root, guest_arch.of(item.arch), item.emulated_cpu)


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the user chooses of the machine."""

    memory_mib: int = 2048
    cpus: int = 2
    cpu: str = ""  # QEMU's -cpu; empty: the host's with KVM, else the kernel's usual one
    append: str = ""  # more kernel parameters
    icount: bool = False  # see qemu.Machine
