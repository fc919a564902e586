"""A kernel that a path names: its image, its tree, its options, its type information."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from made_kernels import BTF, CONFIG, arm64_image, bzimage, tree, vmlinux

from cowtrace.cli import main
from cowtrace.errors import EXIT_MISMATCH, EXIT_USAGE, CowtraceError
from cowtrace.vm import (
    boot_log,
    compressed,
    definition,
    kconfig,
    kernel_image,
    own_build,
    own_kernel,
)
from cowtrace.vm.guest_arch import ARCHES

AMD64, ARM64 = ARCHES["amd64"], ARCHES["arm64"]


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_an_image_tells_its_release_and_its_config(tmp_path: Path) -> None:
    image = kernel_image.read(written(tmp_path / "bzImage", bzimage()))
    assert (image.arch, image.release, image.config()) == (AMD64, "6.12.1-mine", CONFIG)
    without = kernel_image.read(written(tmp_path / "without", bzimage(None)))
    assert without.config() is None


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_arm64_image_may_be_compressed(tmp_path: Path, pack: type[bytes]) -> None:
    image = kernel_image.read(written(tmp_path / "Image", pack(arm64_image())))
    assert (image.arch, image.release) == (ARM64, "6.12.1-arm")
    assert image.data == arm64_image()  # QEMU gets it as it is
    assert image.config() == "CONFIG_ARM64=y\n"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "neither a bzImage nor an Image"),
        (b"\x7fELF" + bytes(1000), "it is an ELF file"),
        (b"MZ\0\0zimg" + bytes(1000), "an EFI image"),
        (bzimage(release="../../etc"), "its release is no name"),
        (bzimage(release="\x1b[31m"), "its release is no name"),
        (gzip.compress(b"text", mtime=0), "neither a bzImage"),
        (gzip.compress(arm64_image(), mtime=0)[:-40], "its gzip data is damaged"),
        (b"\x1f\x8b" + bytes(50), "its gzip data is damaged"),
    ],
    ids=[str(number) for number in range(8)],
)
def test_what_is_no_image_is_named(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(CowtraceError, match=says) as caught:
        kernel_image.read(written(tmp_path / "x", data))
    assert str(tmp_path / "x") in str(caught.value)


def test_a_payload_that_grows_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CowtraceError, match="more than 1 MiB"):
        compressed.decompress(gzip.compress(bytes(2 << 20)), 1 << 20, "it")
    with pytest.raises(CowtraceError, match="more than 1 MiB"):
        compressed.decompress(lzma.compress(bytes(2 << 20)), 1 << 20, "it")
    assert compressed.decompress(b"plain", 10, "it") == b"plain"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 1200))
def test_damaged_images_end_in_an_error_or_a_config(junk: bytes, at: int) -> None:
    data = bytearray(bzimage())
    data[at : at + len(junk)] = junk
    image = kernel_image.KernelImage(bytes(data), AMD64, "x")
    with contextlib.suppress(CowtraceError):
        assert isinstance(image.config(), str | None)


def test_btf_of_a_vmlinux(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    assert kernel_image.btf_section(written(path, vmlinux())) == BTF
    assert kernel_image.btf_section(written(path, vmlinux(b".text"))) is None
    for data in (b"", b"\x7fELF\x02\x01", vmlinux()[:100], b"\x7fELF\x01\x01" + bytes(100)):
        with pytest.raises(CowtraceError, match="cannot be used"):
            kernel_image.btf_section(written(path, data))
    far = bytearray(vmlinux())
    far[40:48] = struct.pack("<Q", 1 << 63)
    with pytest.raises(CowtraceError, match="cannot be used"):
        kernel_image.btf_section(written(path, bytes(far)))


def test_a_tree_has_an_image_a_config_and_modules(tmp_path: Path) -> None:
    made = tree(tmp_path / "linux", image=bzimage())
    (made / "drivers").mkdir()
    for name in ("virtio-blk.ko", "old.ko"):
        (made / "drivers" / name).touch()
    (made / "modules.order").write_text("drivers/virtio-blk.o\ndrivers/old.ko\ngone.o\n/etc/x.ko\n")
    (made / "modules.builtin.modinfo").touch()
    (made / "vmlinux").write_bytes(vmlinux())
    parts = own_kernel.find(made)
    assert (parts.name, parts.is_tree, parts.image.name) == ("linux", True, "bzImage")
    assert [own_kernel.module_name(module) for module in parts.modules] == ["virtio_blk", "old"]
    assert (parts.config, parts.vmlinux) == (made / ".config", made / "vmlinux")
    image = own_kernel.find(parts.image)
    assert (image.name, image.modules, image.config) == ("bzImage", parts.modules, parts.config)
    assert parts.builtin == ()  # without modules.builtin, depmod needs none of them


def test_an_image_may_have_modules_and_a_config_beside_it(tmp_path: Path) -> None:
    image = written(tmp_path / "vmlinuz-6.12.1-mine", bzimage(None))
    (tmp_path / "config-6.12.1-mine").write_text(CONFIG)
    modules = tmp_path / "lib/modules/6.12.1-mine/kernel"
    modules.mkdir(parents=True)
    (modules / "virtio_blk.ko.zst").touch()
    parts = own_kernel.find(image, tmp_path / "lib")
    assert parts.config == tmp_path / "config-6.12.1-mine"
    assert [own_kernel.module_name(module) for module in parts.modules] == ["virtio_blk"]
    assert own_kernel.find(image).modules == ()


@pytest.mark.parametrize("folder", ["lib/modules", "usr/lib/modules"])
def test_an_installed_image_has_its_releases_modules(tmp_path: Path, folder: str) -> None:
    (tmp_path / "boot").mkdir()
    image = written(tmp_path / "boot" / "vmlinuz-6.12.1-mine", bzimage(None))
    for release in ("6.12.1-mine", "6.12.2"):
        modules = tmp_path / folder / release / "kernel"
        modules.mkdir(parents=True)
        (modules / "virtio_blk.ko").touch()
    assert own_kernel.find(image).modules == (
        tmp_path / folder / "6.12.1-mine" / "kernel" / "virtio_blk.ko",
    )
    other = written(tmp_path / "boot" / "vmlinuz-6.1", bzimage(None))
    assert own_kernel.find(other).modules == ()


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("none",), "there is no kernel at"),
        (("empty",), "it has no .config"),
        (("unbuilt",), "holds no arch/x86/boot/bzImage"),
        (("linux", "empty"), "holds no modules"),
    ],
)
def test_what_is_no_kernel_is_a_usage_error(
    tmp_path: Path, names: tuple[str, ...], says: str
) -> None:
    (tmp_path / "empty").mkdir()
    tree(tmp_path / "unbuilt")
    tree(tmp_path / "linux", image=bzimage())
    with pytest.raises(CowtraceError, match=says) as caught:
        own_kernel.find(*(tmp_path / name for name in names))
    assert caught.value.exit_code == EXIT_USAGE


def test_what_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not own_kernel.is_path("6.13")
    (tmp_path / "linux").mkdir()
    assert all(map(own_kernel.is_path, (".", "../linux", "/boot/vmlinuz", "linux")))


def test_the_fragment_is_the_architectures_own() -> None:
    amd64, arm64 = ("\n".join(kconfig.fragment(arch)) for arch in (AMD64, ARM64))
    assert "CONFIG_SERIAL_8250_CONSOLE=y" in amd64
    assert "CONFIG_SERIAL_8250_CONSOLE=y" not in arm64
    assert "CONFIG_SERIAL_AMBA_PL011_CONSOLE=y" in arm64
    assert "[" not in amd64
    sections = {option.section for option in kconfig.options(AMD64)}
    assert {*kconfig.NEEDED, "tracing", "kprobe", "fentry", "checks"} <= sections


def test_each_option_of_the_fragment_has_a_reason_above_it() -> None:
    reason = ""
    for line in kconfig.fragment(AMD64):
        assert line == "" or line.startswith("#") or reason
        reason = "" if line == "" else line


def test_what_a_config_lacks() -> None:
    full = "".join(f"{option.line}\n" for option in kconfig.options(AMD64))
    assert kconfig.missing(full, AMD64) == ()
    as_module = full.replace("CONFIG_EXT4_FS=y", "CONFIG_EXT4_FS=m")
    assert [one.name for one in kconfig.missing(as_module, AMD64)] == ["CONFIG_EXT4_FS"]
    assert kconfig.missing(as_module, AMD64, frozenset({"ext4"})) == ()
    without = full.replace("CONFIG_KPROBES=y", "# CONFIG_KPROBES is not set")
    (kprobes,) = kconfig.missing(without, AMD64)
    assert (kprobes.section, kprobes.line) == ("kprobe", "CONFIG_KPROBES=y")


def test_the_config_command(tmp_path: Path) -> None:
    shown = CliRunner().invoke(main, ["vm", "config"])
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == list(kconfig.fragment(AMD64))
    made = tree(tmp_path / "linux")  # not built yet
    shown = CliRunner().invoke(main, ["vm", "config", str(made)])
    assert shown.exit_code == EXIT_MISMATCH
    assert "CONFIG_VIRTIO_BLK=y" in shown.stdout.splitlines()
    assert "CONFIG_SMP=y" not in shown.stdout.splitlines()
    (made / ".config").write_text(shown.stdout + CONFIG.replace("EXT4_FS=m", "EXT4_FS=y"))
    again = CliRunner().invoke(main, ["vm", "config", str(made)])
    assert (again.exit_code, again.stdout) == (0, "")
    unknown = written(tmp_path / "bzImage", bzimage(None))
    shown = CliRunner().invoke(main, ["vm", "config", str(unknown)])
    assert shown.exit_code == 1
    assert "is not known: it has no CONFIG_IKCONFIG" in shown.stderr


def test_a_kernel_that_cannot_boot_names_the_lines_to_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    parts = own_kernel.find(tree(tmp_path / "linux", image=bzimage()))
    with pytest.raises(CowtraceError, match="CONFIG_64BIT is not set, and") as caught:
        own_build.prepare(definition.load(), parts, tmp_path / "busybox", lambda line: None)
    assert "CONFIG_VIRTIO_BLK=y" in caught.value.hint


@pytest.fixture
def bootable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with all options, and a busybox beside it."""
    if os.system("command -v depmod cpio >/dev/null"):
        pytest.skip("depmod or cpio is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "busybox").write_bytes(b"busybox")
    full = "".join(f"{option.line}\n" for option in kconfig.options(AMD64))
    return tree(tmp_path / "linux", "CONFIG_X86_64=y\n" + full, image=bzimage())


def prepared(made: Path, btf: Path | None = None) -> own_build.Prepared:
    parts = own_kernel.find(made, btf=btf)
    return own_build.prepare(definition.load(), parts, made.parent / "busybox", lambda line: None)


def test_a_kernel_is_made_again_when_it_changed(bootable: Path) -> None:
    first = prepared(bootable)
    assert (first.name, first.release, first.lacking) == ("linux", "6.12.1-mine", ())
    assert {path.name for path in first.place.iterdir()} == {"initrd", "manifest.json", "vmlinuz"}
    (first.place / "programs.tar").write_bytes(b"compiled")
    before = (first.place / "manifest.json").stat().st_mtime_ns
    assert prepared(bootable) == first
    assert (first.place / "manifest.json").stat().st_mtime_ns == before
    image = bootable / "arch/x86/boot/bzImage"
    image.write_bytes(bzimage(release="6.12.2-mine"))
    second = prepared(bootable)
    assert (second.release, second.place) == ("6.12.2-mine", first.place)
    assert "6.12.2-mine" in second.versions
    assert (second.place / "vmlinuz").read_bytes() == image.read_bytes()
    assert (second.place / "programs.tar").read_bytes() == b"compiled"
    assert [path.name for path in first.place.parent.glob(".building-*")] == []


def test_a_driver_that_is_a_module_elsewhere_is_said(bootable: Path) -> None:
    config = bootable / ".config"
    config.write_text(config.read_text().replace("CONFIG_VIRTIO_BLK=y", "CONFIG_VIRTIO_BLK=m"))
    with pytest.raises(CowtraceError) as caught:
        prepared(bootable)
    assert "CONFIG_VIRTIO_BLK is a module, which is not here" in str(caught.value)
    assert caught.value.hint == (
        "name its modules: --modules /lib/modules/6.12.1-mine; or add to its .config: "
        "CONFIG_VIRTIO_BLK=y"
    )


def test_modules_of_another_release_are_refused(bootable: Path) -> None:
    (bootable / "modules.order").write_text("a.o\n")
    module = bootable / "a.ko"
    module.write_bytes(b"\x7fELF\0vermagic=6.12.1-mine SMP mod_unload \0")
    own_build._require_same_release(own_kernel.find(bootable), "6.12.1-mine")
    module.write_bytes(b"\x7fELF\0vermagic=6.12.0-old SMP mod_unload \0")
    with pytest.raises(CowtraceError, match=r"are of 6\.12\.0-old, its image of 6\.12\.1-mine"):
        prepared(bootable)


def test_type_information_comes_from_where_it_is(bootable: Path, tmp_path: Path) -> None:
    (bootable / "vmlinux").write_bytes(vmlinux())
    assert prepared(bootable).btf is None  # the kernel shows it itself
    config = bootable / ".config"
    config.write_text(config.read_text().replace("CONFIG_DEBUG_INFO_BTF=y\n", ""))
    beside = prepared(bootable)
    assert beside.btf
    assert beside.btf.read_bytes() == BTF
    assert [option.name for option in beside.lacking] == ["CONFIG_DEBUG_INFO_BTF"]
    (bootable / "vmlinux").write_bytes(vmlinux(b".text"))
    assert prepared(bootable).btf is None
    raw = written(tmp_path / "types.btf", BTF + b"more")
    named = prepared(bootable, raw).btf
    assert named
    assert named.read_bytes() == BTF + b"more"
    with pytest.raises(CowtraceError, match="it holds no BTF"):
        prepared(bootable, bootable / "vmlinux")
    with pytest.raises(CowtraceError, match="there is no file"):
        prepared(bootable, tmp_path / "none.btf")
    with pytest.raises(CowtraceError, match="it holds no BTF"):
        prepared(bootable, written(tmp_path / "x.btf", b"other"))


@pytest.mark.parametrize(
    ("line", "options"),
    [
        (
            "[ 1.2] VFS: Unable to mount root fs on unknown-block(0,0)",
            ("CONFIG_BLK_DEV_INITRD",),
        ),
        (
            "mount: mounting /dev/vda on /newroot failed: No such device",
            ("CONFIG_EXT4_FS",),
        ),
        (
            "mount: mounting dev on /dev failed: No such device",
            ("CONFIG_DEVTMPFS",),
        ),
        ("[ 1.2] Kernel panic - not syncing: sysrq", None),
    ],
)
def test_what_a_boot_lacked(line: str, options: tuple[str, ...] | None) -> None:
    found = boot_log.lacking(["[ 0.1] hello", line])
    assert (found.options if found else None) == options
