"""Read a kernel image file: its architecture, its release, the configuration inside it.

A bzImage (Documentation/arch/x86/boot.rst), or an Image of arm64
(Documentation/arch/arm64/booting.rst) that may be compressed by gzip. The file is not trusted:
sizes are bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.vm import manifest
from cowtrace.vm.compressed import damaged, decompress
from cowtrace.vm.guest_arch import ARCHES, Arch

MOST_FILE_BYTES = 256 << 20
_MOST_BYTES = 1 << 30  # decompressed
_MOST_CONFIG_BYTES = 4 << 20
_CONFIG_MAGIC = b"IKCFG_ST"  # kernel/configs.c: gzip data follows


@dataclass(frozen=True, slots=True)
class KernelImage:
    """What QEMU boots."""

    data: bytes  # of the file; not compressed on arm64
    arch: Arch
    release: str  # uname -r

    def config(self) -> str | None:
        """The text of CONFIG_IKCONFIG; None if the kernel was built without it."""
        kernel = _payload(self.data) if self.arch.debian == "amd64" else self.data
        at = kernel.find(_CONFIG_MAGIC)
        if at < 0:
            return None
        begin = at + len(_CONFIG_MAGIC)
        text = decompress(
            kernel[begin : begin + _MOST_CONFIG_BYTES], _MOST_CONFIG_BYTES, "IKCONFIG"
        )
        return text.decode(errors="replace")


def read(path: Path) -> KernelImage:
    """Raises CowtraceError if the file cannot be read, or is no such image."""
    data = bounded(path)
    if data[:2] == b"\x1f\x8b":
        data = decompress(data, _MOST_BYTES, str(path))
    if data.startswith(b"\x7fELF"):
        raise _no_image(path, "it is an ELF file", "name the image in the tree's arch/*/boot/")
    if data[4:8] == b"zimg":
        raise _no_image(path, "it is an EFI image that decompresses itself", "name the Image in it")
    try:
        banner = manifest.banner(data)
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise _no_image(path, str(error), "name a bzImage, a vmlinuz or an Image") from error
    release = banner.split(" ", 1)[0]
    if not release.isprintable() or not release or "/" in release or len(release) > 64:
        raise damaged(str(path), "its release is no name")
    arch = ARCHES[manifest.IMAGES.get(data[0x38:0x3C], "amd64")]
    return KernelImage(data, arch, release)


def bounded(path: Path, most_bytes: int = MOST_FILE_BYTES) -> bytes:
    """The content of a file that the user names. Raises CowtraceError."""
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise CowtraceError(
            f"{path} cannot be read: {error.strerror}",
            hint="name a kernel image, or the folder in which one was built",
            exit_code=EXIT_USAGE,
        ) from error
    if len(data) > most_bytes:
        raise damaged(str(path), f"it has more than {most_bytes >> 20} MiB")
    return data


def _payload(bzimage: bytes) -> bytes:
    """The kernel in a bzImage, decompressed: an ELF file."""
    offset, length = struct.unpack_from("<II", bzimage, 0x248)  # protocol 2.08, of 2.6.26
    begin = (bzimage[0x1F1] + 1) * 512 + offset
    return decompress(bzimage[begin : begin + length], _MOST_BYTES, "the bzImage")


def _no_image(path: Path, why: str, hint: str) -> CowtraceError:
    return CowtraceError(f"{path} is no kernel image: {why}", hint=hint, exit_code=EXIT_USAGE)


_Section = tuple[int, int, int]  # of the name, in the table of names; offset, size


def btf_section(path: Path) -> bytes | None:
    """The section .BTF of a vmlinux; None if it has none. Raises CowtraceError."""
    try:
        with path.open("rb") as file:

            def read_at(offset: int, size: int) -> bytes:
                file.seek(offset)
                data = file.read(min(size, MOST_FILE_BYTES))
                if len(data) < size:
                    raise ValueError("it is cut")
                return data

            return _section(read_at, b".BTF")
    except (OSError, ValueError, struct.error) as error:
        raise damaged(str(path), str(error)) from error


def _section(read_at: Callable[[int, int], bytes], name: bytes) -> bytes | None:
    """A section of a 64-bit little-endian ELF file: include/uapi/linux/elf.h."""
    head = read_at(0, 64)
    if head[:6] != b"\x7fELF\x02\x01":
        raise ValueError("it is no 64-bit ELF file")
    (table,) = struct.unpack_from("<Q", head, 40)
    size, count, names = struct.unpack_from("<HHH", head, 58)
    if size != 64 or names >= count:
        raise ValueError("it has no table of sections")
    raw = read_at(table, size * count)
    sections = [struct.unpack_from("<I20xQQ", raw, size * number) for number in range(count)]
    texts = read_at(*sections[names][1:])
    for at, offset, length in sections:
        if texts[at:].startswith(name + b"\0"):
            return read_at(offset, length)
    return None
