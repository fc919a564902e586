"""Prepare a kernel that the user names by a path: the folder that QEMU boots from.

The folder is kept in the cache under the kernel's path. It is made again when one of the files
that it was made from has changed; compiled BPF programs stay.
"""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.vm import GUEST, host_programs, image_store, kconfig, kernel_image, manifest, stable
from cowtrace.vm.compressed import damaged, decompress
from cowtrace.vm.definition import Definition, Kernel
from cowtrace.vm.guest_arch import Arch
from cowtrace.vm.kernel import initrd_tree
from cowtrace.vm.own_config import config_of
from cowtrace.vm.own_kernel import BTF_MAGIC, Parts, module_name

_FORMAT = "1"  # increment when a change of this code changes the result
_MOST_BTF_BYTES = 64 << 20
_NEED_MIB = 400
BTF = "btf"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A kernel that a path names, ready to boot."""

    name: str  # for users
    place: Path  # folder with vmlinuz, initrd, manifest, perhaps btf
    arch: Arch
    release: str
    config: str | None  # the text of its .config; None: unknown
    lacking: tuple[kconfig.Option, ...]  # options; empty also if the config is unknown

    @property
    def btf(self) -> Path | None:
        """Type information that the image does not have."""
        path = self.place / BTF
        return path if path.exists() else None

    @property
    def versions(self) -> str:
        made = manifest.read(self.place)
        assert made
        digests = ", ".join(f"{file} {digest[:16]}" for file, digest in made.sha256)
        return f"{self.name}: {self.release}, SHA-256 {digests}"


def prepare(known: Definition, parts: Parts, busybox: Path, say: Callable[[str], None]) -> Prepared:
    """Make the folder, unless it is there and current.

    Raises CowtraceError if the image is no kernel, or if it cannot boot in the VM.
    """
    image = kernel_image.read(parts.image)
    config = config_of(parts, image)
    names = frozenset(map(module_name, parts.modules))
    absent = kconfig.missing(config, image.arch, names) if config else ()
    if fatal := [option for option in absent if option.section in kconfig.NEEDED]:
        raise _lacking(parts, config or "", image.release, fatal)
    _require_same_release(parts, image.release)
    place = image_store.folder() / f"kernel-own-{image_store.key(str(parts.path))}"
    types = _types(parts, config)
    item = _kernel(known, parts.name, image.arch)
    key = _key(item, image, config, parts, types, busybox)
    made = manifest.read(place)
    if not made or made.packages != (key,):
        with image_store.locked(image_store.folder(), say) as lock:
            log = image_store.folder() / f"build-{parts.name}.log"
            log.write_text("")
            run = functools.partial(host_programs.run, log=log, keep_open=(lock,))
            image_store.require_space(image_store.folder(), _NEED_MIB, f"kernel {parts.name}")
            _make(place, item, image, parts, types, busybox, key, run)
    return Prepared(parts.name, place, image.arch, image.release, config, absent)


def _lacking(
    parts: Parts, config: str, release: str, fatal: Sequence[kconfig.Option]
) -> CowtraceError:
    """It has not what it needs to boot, or has it as modules, which are not here."""
    modular = fatal[0].name in kconfig.set_options(config)
    what = f"{fatal[0].name} is {'a module, which is not here' if modular else 'not set'}"
    add = f"add to its .config: {kconfig.lines_to_add(fatal)}"
    return CowtraceError(
        f"the kernel {parts.name} does not boot in the VM: {what}"
        + (f", and {len(fatal) - 1} more" if fatal[1:] else ""),
        hint=f"name its modules: --modules /lib/modules/{release}; or {add}" if modular else add,
    )


def _require_same_release(parts: Parts, release: str) -> None:
    """Raises CowtraceError if the modules were built for another kernel: it would load none."""
    if not parts.modules:
        return
    path = parts.modules[0]
    module = decompress(kernel_image.bounded(path), kernel_image.MOST_FILE_BYTES, str(path))
    found = re.search(rb"\0vermagic=([!-~]{1,64}) ", module)
    if found and found[1].decode() != release:
        raise CowtraceError(
            f"the modules of {parts.name} are of {found[1].decode()}, its image of {release}",
            hint="build both: make; or name the image's own with --modules",
        )


def _kernel(known: Definition, name: str, arch: Arch) -> Kernel:
    """With the modules that any kernel of this definition needs, where they are not built in."""
    usual = known.kernels[0]
    disk = dict.fromkeys(module for kernel in known.kernels for module in kernel.disk_modules)
    return replace(usual, name=name, disk_modules=tuple(disk), arch=arch.debian, cpu=())


def _types(parts: Parts, config: str | None) -> bytes | None:
    """BTF that the kernel itself does not show: of --btf, or of the vmlinux beside it."""
    if parts.btf:
        with parts.btf.open("rb") as file:
            is_elf = file.read(4) == b"\x7fELF"
        read = kernel_image.btf_section if is_elf else kernel_image.bounded
        types = read(parts.btf)
        if not types or not types.startswith(BTF_MAGIC) or len(types) > _MOST_BTF_BYTES:
            raise damaged(str(parts.btf), "it holds no BTF")
        return types
    shown = config is None or "CONFIG_DEBUG_INFO_BTF" in kconfig.set_options(config)
    return None if shown or not parts.vmlinux else kernel_image.btf_section(parts.vmlinux)


def _key(
    item: Kernel,
    image: kernel_image.KernelImage,
    config: str | None,
    parts: Parts,
    types: bytes | None,
    busybox: Path,
) -> str:
    """A digest of all that decides the files."""
    modules = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in parts.modules]
    contents = (image.data, (config or "").encode(), types or b"", busybox.read_bytes())
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    return image_store.key(_FORMAT, (GUEST / "init").read_text(), repr(item), *digests, *modules)


def _make(
    place: Path,
    item: Kernel,
    image: kernel_image.KernelImage,
    parts: Parts,
    types: bytes | None,
    busybox: Path,
    key: str,
    run: Callable[..., None],
) -> None:
    with image_store.staged(place) as new:
        (new / "vmlinuz").write_bytes(image.data)
        if types:
            (new / BTF).write_bytes(types)
        unpacked, tree = new.parent / "unpacked", new.parent / "initrd"
        folder = unpacked / "lib/modules" / image.release
        (folder / "kernel").mkdir(parents=True)
        for number, module in enumerate(parts.modules):
            inside = folder / "kernel" / str(number)
            inside.mkdir()
            (inside / module.name).symlink_to(module)
        for listing in parts.builtin:
            shutil.copy(listing, folder)
        initrd_tree(tree, item, image.release, busybox, unpacked, run)
        stable.cpio(tree, new / "initrd", 0, run, what=f"packing the initrd of {item.name}")
        compiled = place / "programs.tar"
        if compiled.exists():
            shutil.copy(compiled, new)
        digests = manifest.digests(new / "initrd", new / "vmlinuz")
        built = datetime.now(UTC).isoformat(timespec="seconds")
        made = manifest.Manifest(str(parts.path), image.release, (key,), digests, built)
        manifest.write(new, made)
