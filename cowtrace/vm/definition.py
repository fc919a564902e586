"""Read vagrant/kernels.toml: the kernels, and the userspace that they share."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cowtrace.errors import EXIT_USAGE, CowtraceError, did_you_mean
from cowtrace.shipped import vagrant_dir
from cowtrace.vm import guest_arch

AMD64 = "amd64"


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel that the VM can boot."""

    name: str  # what users type: 6.12
    suite: str  # Debian's: trixie
    package: str
    boot_modules: tuple[str, ...]  # loaded first: the bus, and the ports to the host
    disk_modules: tuple[str, ...]  # loaded before the disks are mounted
    extra_modules: tuple[str, ...]  # for modprobe later
    arch: str = AMD64  # Debian's name: cowtrace.vm.guest_arch.ARCHES
    usual: bool = True  # built and verified by default
    cpu: tuple[str, ...] = ()  # features to disable when QEMU emulates the processor

    @property
    def emulated_cpu(self) -> str:
        """QEMU's -cpu, without KVM."""
        return ",".join((guest_arch.of(self.arch).cpu, *self.cpu))


@dataclass(frozen=True, slots=True)
class Userspace:
    """The root image, the same under every kernel."""

    suite: str
    packages: tuple[str, ...]
    size_mib: int  # of the file system; the file is sparse
    arch: str = AMD64


@dataclass(frozen=True, slots=True)
class Busybox:
    """The shell of the initrd of a kernel that the user names by its path."""

    suite: str
    arch: str = AMD64


@dataclass(frozen=True, slots=True)
class Definition:
    """Everything that decides what is built."""

    kernels: tuple[Kernel, ...]  # in the file's order
    userspace: Userspace
    without: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # packages of the userspace that Debian does not have for an architecture

    @property
    def usual(self) -> tuple[str, ...]:
        """Names of the kernels to use when the user names none."""
        return tuple(kernel.name for kernel in self.kernels if kernel.usual)

    def userspace_of(self, kernel: Kernel) -> Userspace:
        """The userspace for this kernel's architecture."""
        return self.userspace_for(kernel.arch)

    def userspace_for(self, arch: str) -> Userspace:
        """The userspace for an architecture, without the packages that it lacks."""
        lacking = self.without.get(arch, ())
        packages = tuple(name for name in self.userspace.packages if name not in lacking)
        return dataclasses.replace(self.userspace, arch=arch, packages=packages)

    def kernel(self, name: str) -> Kernel:
        """The kernel of this name. Raises CowtraceError with the nearest name otherwise."""
        names = [kernel.name for kernel in self.kernels]
        if name in names:
            return self.kernels[names.index(name)]
        raise CowtraceError(
            f"the test VM has no kernel '{name}'",
            hint=f"{did_you_mean(name, names)}known: {', '.join(names)}",
            exit_code=EXIT_USAGE,
        )


def load(path: Path | None = None) -> Definition:
    """Read a definition, by default the project's. Raises CowtraceError if it is invalid."""
    path = path or vagrant_dir() / "kernels.toml"
    try:
        return parse(tomllib.loads(path.read_text()))
    except (OSError, KeyError, TypeError, ValueError) as error:
        detail = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise CowtraceError(
            f"the VM's definition cannot be used: {detail}",
            hint=f"look at {path}",
            exit_code=EXIT_USAGE,
        ) from error


def parse(data: dict[str, Any]) -> Definition:
    """The Definition in parsed TOML. Raises KeyError, TypeError, ValueError."""
    modules = data["modules"]
    boot, disk, extra = (
        _strings(modules[key], f"modules.{key}") for key in ("boot", "disk", "extra")
    )
    kernels = tuple(
        Kernel(
            name,
            _string(item["suite"]),
            _string(item["package"]),
            boot,
            disk + _strings(item.get("disk", []), f"kernels.{name}.disk"),
            extra,
            guest_arch.of(item.get("arch", AMD64)).debian,
            not item.get("more", False),
            _strings(item.get("cpu", []), f"kernels.{name}.cpu"),
        )
        for name, item in data["kernels"].items()
    )
    if not kernels:
        raise ValueError("it names no kernel")
    user = data["userspace"]
    size_mib = user["size_mib"]
    if not isinstance(size_mib, int) or size_mib <= 0:
        raise ValueError(f"userspace.size_mib is {size_mib!r}, not a number above 0")
    packages = _strings(user["packages"], "userspace.packages")
    without = {
        guest_arch.of(arch).debian: _strings(names, f"userspace.without.{arch}")
        for arch, names in user.get("without", {}).items()
    }
    return Definition(kernels, Userspace(_string(user["suite"]), packages, size_mib), without)


def _string(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not a name")
    return value


def _strings(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{key} is not a list")
    return tuple(_string(item) for item in value)
