"""Record what was built, in manifest.json beside each image: versions, suite and SHA-256."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

from cowtrace.vm import host_programs

NAME = "manifest.json"
IMAGES = {b"ARM\x64": "arm64", b"RSC\x05": "riscv64"}  # at 0x38 of an Image: its architecture
_TOOLS = ("cpio", "e2fsprogs", "kmod", "mmdebstrap")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Enough to distinguish two builds, and to request the same one from a snapshot mirror."""

    suite: str
    version: str  # a kernel's `uname -r`; the suite's name for the root image
    packages: tuple[str, ...]  # NAME=VERSION; a kernel's own first, a root image's sorted
    sha256: tuple[tuple[str, str], ...]  # by file name
    built: str  # UTC, ISO 8601
    tools: tuple[str, ...] = ()  # NAME=VERSION of packages on this machine that affect the result


def write(place: Path, manifest: Manifest) -> None:
    (place / NAME).write_text(text(manifest))


def text(manifest: Manifest) -> str:
    return f"{json.dumps(asdict(manifest), indent=2)}\n"


def read(place: Path) -> Manifest | None:
    """The manifest of a finished build; None if it was not built."""
    try:
        data = json.loads((place / NAME).read_text())
    except FileNotFoundError:
        return None
    data["packages"] = tuple(data["packages"])
    data["tools"] = tuple(data.get("tools", ()))  # older manifests have none
    data["sha256"] = tuple((name, digest) for name, digest in data["sha256"])
    return Manifest(**data)


def digests(*files: Path) -> tuple[tuple[str, str], ...]:
    """Each file's name and SHA-256."""
    result = []
    for path in files:
        with path.open("rb") as file:
            result.append((path.name, hashlib.file_digest(file, "sha256").hexdigest()))
    return tuple(result)


def tools() -> tuple[str, ...]:
    """Debian packages on this machine that make the files; empty without dpkg."""
    listing = host_programs.output("dpkg-query", "-W", "-f", "${Package}=${Version}\\n", *_TOOLS)
    return tuple(sorted(line for line in listing.splitlines() if not line.endswith("=")))


def busybox(program: bytes) -> str:
    """The version of the Debian package of a busybox; `unknown` if the program contains none."""
    found = re.search(rb"BusyBox v\S+ \(Debian ([^)]+)\)", program)
    return found[1].decode() if found else "unknown"


def installed(status: str) -> tuple[str, ...]:
    """NAME=VERSION of every installed package in dpkg's status file, sorted."""
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in paragraph.splitlines()
            if not line.startswith(" ") and ": " in line
        )
        if fields.get("Status", "").endswith(" installed"):
            found.append(f"{fields['Package']}={fields['Version']}")
    return tuple(sorted(found))


def banner(vmlinuz: bytes) -> str:
    """A kernel's version line: `uname -r`, then its build number and package version.

    In a bzImage, the kernel_version field points to it (Documentation/arch/x86/boot.rst). An
    Image of arm64 or riscv64 (Documentation/arch/{arm64/booting,riscv/boot-image-header}.rst) has
    linux_banner somewhere in its data. Raises ValueError for anything else.
    """
    if arch := IMAGES.get(vmlinuz[0x38:0x3C]):
        found = re.search(rb"Linux version (\S+) [^\n\0]*(#\d[^\n\0]*)", vmlinuz)
        if not found:
            raise ValueError(f"an Image of {arch} without a version")
        return f"{found[1].decode()} {found[2].decode()}"
    if vmlinuz[0x202:0x206] != b"HdrS":
        raise ValueError("neither a bzImage nor an Image")
    (offset,) = struct.unpack_from("<H", vmlinuz, 0x20E)
    start = offset + 0x200
    return vmlinuz[start : vmlinuz.index(b"\0", start)].decode()
