"""Publish the Vagrant box: the root image in libvirt's format, and the kernels beside it.

Root publishes it from root's own cache to a system folder that every user can read. `vagrant up`
adds the box from there, and boots the kernel from there.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.vm import VmError, build, guest_arch, host_programs, image_store, manifest, root
from cowtrace.vm.definition import Definition, Kernel
from cowtrace.vm.tree import add

BOX = "cowtrace.box"
_IMAGE = "box.img"  # the name that vagrant-libvirt looks for in a box
_KERNEL_FILES = ("vmlinuz", "initrd")
CMDLINE = "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 mitigations=off"


@dataclass(frozen=True, slots=True)
class Box:
    """What Vagrant needs to boot one kernel."""

    name: str  # contains the digest of its root image: another image, another box
    file: Path
    vmlinuz: Path
    initrd: Path


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of boxes and their kernels: $COWTRACE_BOXES, or /var/cache/cowtrace."""
    return Path(environ.get("COWTRACE_BOXES") or "/var/cache/cowtrace")


def find(definition: Definition, kernel: str) -> Box:
    """The box of this kernel. Raises CowtraceError for an unknown kernel or a missing box."""
    kernel_place, box_place = _places(definition, _native_kernel(definition, kernel))
    made = manifest.read(box_place)
    if not made or not manifest.read(kernel_place):
        what = f"kernel {kernel}" if made else "the box"
        raise VmError(
            f"{what} is not built for Vagrant", hint=f"run: sudo cowtrace vm build --box {kernel}"
        )
    vmlinuz, initrd = (kernel_place / name for name in _KERNEL_FILES)
    name = f"cowtrace-{dict(made.sha256)[root.IMAGE][:12]}"
    return Box(name, box_place / BOX, vmlinuz, initrd)


def require(definition: Definition, names: Sequence[str]) -> None:
    """Raises CowtraceError if a kernel can have no box here, or a program is missing."""
    for name in names:
        _native_kernel(definition, name)
    for program in ("qemu-img", "vagrant"):
        host_programs.find(program)


def publish(
    definition: Definition, names: Sequence[str], say: Callable[[str], None], *, force: bool = False
) -> None:
    """Make the box, and copy these kernels beside it, unless they are there and current.

    Their images must be built, and `require` must have passed. Raises CowtraceError when a step
    fails.
    """
    top = folder()
    with image_store.locked(top, say) as lock:
        top.chmod(0o755)
        current = (_places(definition, item) for item in definition.kernels)
        image_store.clean(top, frozenset(place.name for pair in current for place in pair))
        for name in names:
            item = definition.kernel(name)
            kernel, image = build.artifacts_of(definition, item)
            kernel_place, box_place = _places(definition, item)
            if force or _outdated(kernel_place, kernel):
                say(f"copying kernel {name} to {top}")
                _copy(kernel, kernel_place)
            if force or _outdated(box_place, image):
                say(f"packing the root image as a box in {top}")
                _pack(image, box_place, lock, say)


def _native_kernel(definition: Definition, name: str) -> Kernel:
    """Raises CowtraceError for an unknown kernel, and for one of another architecture."""
    item = definition.kernel(name)
    if guest_arch.of(item.arch) != guest_arch.native():
        raise CowtraceError(
            f"kernel {name} is of {item.arch}: this machine has no Vagrant box of it",
            hint=f"use: cowtrace vm run {name} -- COMMAND",
            exit_code=EXIT_USAGE,
        )
    return item


def _places(definition: Definition, item: Kernel) -> tuple[Path, Path]:
    """The published folders of a kernel, and of its userspace's box."""
    kernel, image = build.artifacts_of(definition, item)
    return folder() / kernel.place.name, folder() / f"box-{image.place.name}"


def _outdated(place: Path, artifact: build.Artifact) -> bool:
    """True if the artifact was built again since it was published, or never published."""
    published, built = manifest.read(place), artifact.manifest
    assert built
    return not published or not set(built.sha256) <= set(published.sha256)


def _copy(artifact: build.Artifact, place: Path) -> None:
    image_store.require_space(place.parent, 50, f"the {artifact.name}")
    with image_store.staged(place) as new:
        for name in (*_KERNEL_FILES, "config", manifest.NAME):
            shutil.copyfile(artifact.place / name, new / name)
        _readable(new)


def _pack(artifact: build.Artifact, place: Path, lock: int, say: Callable[[str], None]) -> None:
    """Write the box: a tar archive of a disk image and its metadata."""
    made = artifact.manifest
    assert made
    image_store.require_space(place.parent, 1000, "the box")
    with image_store.staged(place) as new:
        disk = new / _IMAGE
        host_programs.run(
            [
                *(host_programs.find("qemu-img"), "convert", "-c", "-O", "qcow2"),
                *("-o", "compression_type=zstd", str(artifact.place / root.IMAGE), str(disk)),
            ],
            place.parent / "build.log",
            what="packing the root image",
            keep_open=(lock,),
            on_line=say,
        )
        packed = replace(made, sha256=(*made.sha256, *manifest.digests(disk)))
        gib = -(-(artifact.place / root.IMAGE).stat().st_size // (1 << 30))
        about = {"provider": "libvirt", "format": "qcow2", "virtual_size": gib}
        with tarfile.open(new / BOX, "w", format=tarfile.GNU_FORMAT) as tar:
            add(tar, "metadata.json", f"{json.dumps(about)}\n".encode())
            add(tar, "Vagrantfile", b'Vagrant.configure("2") { |config| }\n')
            add(tar, manifest.NAME, manifest.text(replace(packed, built="")).encode())
            info = tarfile.TarInfo(_IMAGE)
            info.size, info.mode = disk.stat().st_size, 0o644
            with disk.open("rb") as file:
                tar.addfile(info, file)
        disk.unlink()
        manifest.write(new, replace(packed, sha256=(*packed.sha256, *manifest.digests(new / BOX))))
        _readable(new)


def _readable(place: Path) -> None:
    """Make it readable by everyone, independent of the umask."""
    place.chmod(0o755)
    for file in place.iterdir():
        file.chmod(0o644)
