"""Kernel images, trees and vmlinux files that are made up, small and well-formed."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

CONFIG = "CONFIG_X86_64=y\nCONFIG_SMP=y\n# CONFIG_KPROBES is not set\nCONFIG_EXT4_FS=m\n"
BTF = b"\x9f\xeb\x01\x00" + bytes(20)


def bzimage(
    config: str | None = CONFIG, release: str = "6.12.1-mine", payload: bytes = b""
) -> bytes:
    """A head as in Documentation/arch/x86/boot.rst, and a compressed kernel with its config."""
    kernel = b"\x7fELF" + bytes(100) + ikconfig(config)
    payload = payload or gzip.compress(kernel, mtime=0)
    head = bytearray(1024)
    head[0x1F1] = 1  # sectors of setup code, after the first
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = struct.pack("<H", 0x100)  # of the version, 0x200 before it
    version = f"{release} (me@here) #1 SMP\0".encode()
    head[0x300 : 0x300 + len(version)] = version
    head[0x248:0x250] = struct.pack("<II", 16, len(payload))
    return bytes(head) + bytes(16) + payload + bytes(4)


def ikconfig(config: str | None) -> bytes:
    if config is None:
        return b""
    return b"IKCFG_ST" + gzip.compress(config.encode(), mtime=0) + b"IKCFG_ED"


def arm64_image(release: str = "6.12.1-arm") -> bytes:
    head = bytearray(64)
    head[0x38:0x3C] = b"ARM\x64"
    return (
        bytes(head)
        + f"Linux version {release} (me) #1 SMP\n\0".encode()
        + ikconfig("CONFIG_ARM64=y\n")
    )


def vmlinux(section: bytes = b".BTF", data: bytes = BTF) -> bytes:
    """A 64-bit ELF file with one section, and the table of their names."""
    names = b"\0" + section + b"\0.shstrtab\0"
    begin = 64
    table = begin + len(data) + len(names)
    head = bytearray(64)
    head[:6] = b"\x7fELF\x02\x01"
    head[40:48] = struct.pack("<Q", table)
    head[58:64] = struct.pack("<HHH", 64, 2, 1)

    def entry(name: int, offset: int, size: int) -> bytes:
        return struct.pack("<I20xQQ", name, offset, size).ljust(64, b"\0")

    sections = entry(1, begin, len(data)) + entry(len(section) + 2, begin + len(data), len(names))
    return bytes(head) + data + names + sections


def tree(folder: Path, config: str = CONFIG, *, image: bytes | None = None) -> Path:
    """A build tree of x86-64."""
    (folder / "arch/x86/boot").mkdir(parents=True)
    (folder / ".config").write_text(config)
    if image is not None:
        (folder / "arch/x86/boot/bzImage").write_bytes(image)
    return folder
