"""Build one kernel's files: unpack its package, and make vmlinuz, config and initrd from it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from cowtrace.vm import GUEST, VmError, host_programs, manifest, stable
from cowtrace.vm.compressed import decompress
from cowtrace.vm.debian import mmdebstrap
from cowtrace.vm.definition import Kernel
from cowtrace.vm.kernel_image import MOST_FILE_BYTES, bounded

NEED_MIB = 500  # during the build: the unpacked package and its dependencies


def build(
    kernel: Kernel, mirror: str, place: Path, unpacked: Path, run: Callable[..., None]
) -> tuple[str, tuple[str, ...]]:
    """Put vmlinuz, initrd and config into `place`.

    Returns `uname -r`, and NAME=VERSION of each source package, the kernel's first.
    unpacked: an empty folder to work in. run: `host_programs.run`, log and lock bound.
    Raises CowtraceError when a step fails.
    """
    suites = suites_of(kernel.suite)
    wanted = kernel.package if len(suites) == 1 else f"{kernel.package}/{kernel.suite}"
    packages = (wanted, "busybox-static")  # the latter: the initrd's shell
    what = f"unpacking {kernel.package} of {kernel.suite}"
    extract = ["--variant=extract"]
    mmdebstrap(mirror, suites, kernel.arch, packages, unpacked, extract, run, what)
    vmlinuz = only(unpacked, "boot/vmlinuz-*", "boot/vmlinux-*", "usr/lib/modules/*/vmlinuz")
    shutil.copyfile(vmlinuz, place / "vmlinuz")
    config = only(unpacked, "boot/config-*", "usr/lib/modules/*/config")
    shutil.copyfile(config, place / "config")

    release, version = parse_banner(manifest.banner(vmlinuz.read_bytes()))
    tree = unpacked / "initrd"
    packed = only(unpacked, "usr/bin/busybox", "bin/busybox")
    initrd_tree(tree, kernel, release, packed, unpacked, run)
    # The kernel's own time: when its package was built.
    built = int(vmlinuz.stat().st_mtime)
    stable.cpio(tree, place / "initrd", built, run, what=f"packing the initrd of {kernel.name}")
    busybox = manifest.busybox((tree / "bin/busybox").read_bytes())
    return release, (f"{kernel.package}={version}", f"busybox-static={busybox}")


def suites_of(suite: str) -> tuple[str, ...]:
    """The suite; for backports, followed by the complete suite that it extends."""
    return (suite, suite.removesuffix("-backports")) if suite.endswith("-backports") else (suite,)


def parse_banner(banner: str) -> tuple[str, str]:
    """(`uname -r`, package version) from a Debian kernel's version line."""
    version = re.search(r"Debian (\S+)", banner)
    return banner.split(" ", 1)[0], version[1] if version else "unknown"


def initrd_tree(
    tree: Path,
    kernel: Kernel,
    release: str,
    busybox: Path,
    unpacked: Path,
    run: Callable[..., None],
) -> None:
    """Fill the initrd: busybox, /init, the modules, and lists of the order to load them in.

    unpacked: has the modules in lib/modules/RELEASE.
    """
    for folder in ("bin", "dev", "etc", "modules", "newroot", "proc", "sys", "usr/lib/modules"):
        (tree / folder).mkdir(parents=True)
    (tree / "lib").symlink_to("usr/lib")
    shutil.copy(busybox, tree / "bin/busybox")
    shutil.copy(GUEST / "init", tree / "init")
    (tree / "init").chmod(0o755)

    source = only(unpacked, f"lib/modules/{release}", f"usr/lib/modules/{release}")
    if not (unpacked / "lib").exists():  # depmod looks there, newer packages are in usr/lib
        (unpacked / "lib").symlink_to("usr/lib")
    depmod = host_programs.find("depmod")
    run([depmod, "-b", str(unpacked), release], what=f"depmod of {kernel.name}")
    depends = parse_depends((source / "modules.dep").read_text())
    target = tree / "usr/lib/modules" / release
    target.mkdir()
    for phase, names in (
        ("boot", kernel.boot_modules),
        ("disk", kernel.disk_modules),
        ("extra", kernel.extra_modules),
    ):
        order = load_order(names, depends)
        for module in order:
            copy = target / plain_name(module)
            copy.parent.mkdir(parents=True, exist_ok=True)
            # Not compressed: busybox's insmod cannot decompress, and the boot is faster.
            data = bounded(source / module)
            copy.write_bytes(decompress(data, MOST_FILE_BYTES, module))
        listing = "".join(f"{plain_name(module)}\n" for module in order)
        (tree / f"etc/modules-{phase}").write_text(listing)
    for index in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        if (source / index).exists():
            shutil.copy(source / index, target)
    run([depmod, "-b", str(tree), release], what=f"depmod of the initrd of {kernel.name}")


def parse_depends(text: str) -> dict[str, tuple[str, ...]]:
    """Parse modules.dep: each module's file, and the files that it needs, the deepest last."""
    lines = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {module: tuple(needs.split()) for module, needs in lines}


def load_order(names: tuple[str, ...], depends: dict[str, tuple[str, ...]]) -> list[str]:
    """Files of these modules and their dependencies, each before the modules that need it.

    A name without a file is skipped: this kernel has it built in, or lacks it.
    """
    by_name = {Path(plain_name(file)).stem.replace("-", "_"): file for file in depends}
    order: dict[str, None] = {}
    for name in names:
        if file := by_name.get(name.replace("-", "_")):
            order.update(dict.fromkeys([*reversed(depends[file]), file]))
    return list(order)


def plain_name(module: str) -> str:
    """A module's file name without the suffix of its compression."""
    return re.sub(r"\.(xz|gz|zst)$", "", module)


def only(root: Path, *patterns: str) -> Path:
    """The first match of the patterns below root. Raises CowtraceError if nothing matches."""
    for pattern in patterns:
        for found in sorted(root.glob(pattern)):
            return found
    raise VmError(
        f"the kernel package holds no {patterns[0]}",
        hint="name another package in vagrant/kernels.toml",
    )
