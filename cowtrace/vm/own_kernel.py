"""Find the parts of a kernel that the user names by a path: an image file, or a build tree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.vm import kernel_image
from cowtrace.vm.compressed import damaged
from cowtrace.vm.kernel import plain_name

# Where a build leaves what QEMU boots: the architectures of cowtrace.vm.guest_arch.
_BOOT_IMAGES = ("arch/x86/boot/bzImage", "arch/arm64/boot/Image", "arch/arm64/boot/Image.gz")
_MOST_MODULES = 20_000
_MODULE_SUFFIXES = (".ko", ".ko.xz", ".ko.gz", ".ko.zst")
BTF_MAGIC = b"\x9f\xeb"  # little-endian


@dataclass(frozen=True, slots=True)
class Parts:
    """The files that one kernel consists of."""

    path: Path  # that the user named, without links: an image or a tree
    image: Path
    config: Path | None  # None: it may be in the image
    modules: tuple[Path, ...]  # *.ko
    builtin: tuple[Path, ...]  # modules.builtin and the like
    vmlinux: Path | None  # beside the image; it may have BTF
    btf: Path | None  # that the user names: raw BTF, or a vmlinux

    @property
    def name(self) -> str:
        """For users: the last part of the path."""
        return self.path.name or str(self.path)

    @property
    def is_tree(self) -> bool:
        return self.path.is_dir()


def is_path(name: str) -> bool:
    """True if this names a kernel by its path; for names that are in no list of kernels."""
    return "/" in name or name.startswith(".") or Path(name).exists()


def find(path: Path, modules: Path | None = None, btf: Path | None = None) -> Parts:
    """Find the parts of the kernel at this path.

    modules: a folder as /lib/modules/RELEASE, or one that was made by `make modules_install`. An
    image in a folder boot has those of its release beside that.
    Raises CowtraceError if there is no kernel.
    """
    try:
        path = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise CowtraceError(
            f"there is no kernel at {path}",
            hint="name a kernel image, a build tree, or a kernel of: cowtrace vm list",
            exit_code=EXIT_USAGE,
        ) from error
    if btf and not btf.is_file():
        raise CowtraceError(
            f"there is no file {btf}",
            hint="name raw BTF, or a vmlinux: pahole --btf_encode_detached=FILE vmlinux",
            exit_code=EXIT_USAGE,
        )
    if path.is_dir():
        return _tree(path, modules, btf)
    if (tree := _tree_of(path)) and (tree / ".config").is_file():
        return replace(_tree(tree, modules, btf), path=path, image=path)
    config = path.with_name(path.name.replace("vmlinuz", "config", 1))
    there = config != path and config.is_file()
    modules = modules or _modules_beside(path)
    found = _modules_below(modules) if modules else ((), ())
    return Parts(path, path, config if there else None, *found, _beside(path), btf)


def _tree(tree: Path, modules: Path | None, btf: Path | None) -> Parts:
    image = next((tree / name for name in _BOOT_IMAGES if (tree / name).is_file()), None)
    config = tree / ".config"
    if not config.is_file():
        raise CowtraceError(
            f"{tree} is no kernel's build tree: it has no .config",
            hint="make one with what the VM needs: cowtrace vm config >vm.config, and then "
            "scripts/kconfig/merge_config.sh .config vm.config",
            exit_code=EXIT_USAGE,
        )
    if not image:
        raise CowtraceError(
            f"the tree {tree} holds no {' or '.join(_BOOT_IMAGES[:2])}",
            hint="build it: make, or cowtrace verify --kernel, which runs make",
            exit_code=EXIT_USAGE,
        )
    found = _modules_below(modules) if modules else modules_of_tree(tree)
    return Parts(tree, image, config, *found, _beside(image), btf)


def _beside(path: Path) -> Path | None:
    """The vmlinux in the folder of an image, or in its tree."""
    vmlinux = (_tree_of(path) or path.parent) / "vmlinux"
    return vmlinux if vmlinux.is_file() else None


def _modules_beside(image: Path) -> Path | None:
    """lib/modules/RELEASE beside the folder boot of vmlinuz-RELEASE: installed, or a package's."""
    if image.parent.name != "boot" or not image.name.startswith("vmlinuz-"):
        return None
    release = image.name.removeprefix("vmlinuz-")
    folders = (image.parents[1] / name / release for name in ("lib/modules", "usr/lib/modules"))
    return next((folder for folder in folders if folder.is_dir()), None)


def _tree_of(image: Path) -> Path | None:
    """The tree of an image in arch/*/boot/."""
    inside = image.parent.name == "boot" and image.parent.parent.parent.name == "arch"
    return image.parents[3] if inside else None


def modules_of_tree(tree: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The modules that the last build lists, and its lists of those that are built in."""
    order = tree / "modules.order"
    lines = _lines(order) if order.is_file() else []
    names = (line.removesuffix(".o") + ".ko" if line.endswith(".o") else line for line in lines)
    inside = (tree / name for name in names if not Path(name).is_absolute())
    return tuple(path for path in inside if path.is_file()), _builtin(tree)


def _modules_below(folder: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    found = []
    for path in folder.rglob("*.ko*"):
        if path.name.endswith(_MODULE_SUFFIXES) and path.is_file():
            found.append(path)
        if len(found) > _MOST_MODULES:
            raise damaged(str(folder), f"it holds more than {_MOST_MODULES:,} modules")
    if not found:
        raise CowtraceError(
            f"{folder} holds no modules",
            hint="name a folder as /lib/modules/RELEASE; leave --modules out if all is built in",
            exit_code=EXIT_USAGE,
        )
    return tuple(sorted(found)), _builtin(found[0].parent)


def _builtin(folder: Path) -> tuple[Path, ...]:
    """depmod's lists of what is built in; `folder` or one above it has them."""
    for place in (folder, *folder.parents):
        if (place / "modules.builtin").is_file():
            names = ("modules.builtin", "modules.builtin.modinfo", "modules.order")
            return tuple(place / name for name in names if (place / name).is_file())
    return ()


def _lines(path: Path) -> list[str]:
    return kernel_image.bounded(path, 8 << 20).decode(errors="replace").splitlines()[:_MOST_MODULES]


def module_name(path: Path) -> str:
    """As lsmod shows it: virtio_blk."""
    return Path(plain_name(path.name)).stem.replace("-", "_")
