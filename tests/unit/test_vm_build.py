"""Keys, the cache's promises, manifests, module order, the choice of mirror and accelerator."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from cowtrace.errors import EXIT_NO_VM, CowtraceError
from cowtrace.vm import (
    build,
    debian,
    definition,
    foreign,
    host_programs,
    image_store,
    kernel,
    manifest,
    qemu,
)
from cowtrace.vm.progress import shown


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    image_store.folder().mkdir(parents=True)


def entries() -> list[str]:
    return sorted(entry.name for entry in image_store.folder().iterdir())


def test_the_cache_folder_follows_xdg() -> None:
    assert image_store.folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/cowtrace/vm")
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)  # not $HOME, which sudo can leave as it was
    assert image_store.folder({"XDG_CACHE_HOME": "relative"}) == home / ".cache/cowtrace/vm"


def test_the_key_changes_with_each_part_and_its_place() -> None:
    keys = [
        image_store.key("a", "b"),
        image_store.key("ab"),
        image_store.key("b", "a"),
        image_store.key("a", "b", ""),
    ]
    assert len(set(keys)) == 4


def test_a_kernels_key_is_its_own() -> None:
    known = definition.load()
    first, second = known.kernels[:2]
    assert build.kernel_artifact(first).place != build.kernel_artifact(second).place
    moved = dataclasses.replace(first, suite="sid")
    assert build.kernel_artifact(moved).place != build.kernel_artifact(first).place


def test_what_is_built_is_missing_no_more() -> None:
    known = definition.load()
    names = [artifact.name for artifact in build.missing(known, ["6.1", "6.1"])]
    assert names == ["root image", "kernel 6.1"]
    root = build.root_artifact(known.userspace)
    with image_store.staged(root.place) as place:
        manifest.write(place, manifest.Manifest("trixie", "trixie", ("a=1",), (("f", "0"),), "now"))
    assert [artifact.name for artifact in build.missing(known, ["6.1"])] == ["kernel 6.1"]
    assert len(build.missing(known, ["6.1"], force=True)) == 2
    assert root.manifest == manifest.Manifest("trixie", "trixie", ("a=1",), (("f", "0"),), "now")


def test_a_failed_build_leaves_nothing_and_keeps_the_old() -> None:
    place = image_store.folder() / "thing"
    with image_store.staged(place) as new:
        (new / "file").write_text("old")

    def fail() -> None:
        with image_store.staged(place) as new:
            (new / "file").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (place / "file").read_text() == "old"
    assert entries() == ["thing"]


def test_a_killed_build_leaves_nothing_that_is_taken_for_real() -> None:
    place = image_store.folder() / "thing"
    program = (
        "import os, pathlib, signal, sys\nfrom cowtrace.vm import image_store\n"
        "with image_store.staged(pathlib.Path(sys.argv[1])) as new:\n"
        "    (new / 'file').write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, place], check=False)
    assert not place.exists()
    assert len(entries()) == 1  # its temporary folder
    image_store.clean(image_store.folder(), frozenset())
    assert not entries()


def test_only_old_unused_entries_of_other_definitions_are_cleaned(tmp_path: Path) -> None:
    key, top = "0123456789abcdef", image_store.folder()
    current, recent, old = f"kernel-6.1-{key}", f"root-{key}", f"kernel-6.12-{'0' * 16}"
    others = ("photos", "kernel-6.12", ".config")  # of whoever keeps more in there
    for name in (current, recent, old, f"root-arm64-{key}", *others):
        (top / name).mkdir()
        (top / name / "file").touch()
        os.utime(top / name, (0, 0))
    os.utime(top / recent)
    (tmp_path / "elsewhere").mkdir()
    os.utime(tmp_path / "elsewhere", (0, 0))
    (top / f"box-root-{key}").symlink_to(tmp_path / "elsewhere")
    (top / ".building-link").symlink_to(tmp_path / "elsewhere")
    image_store.clean(top, frozenset({current}))
    links = (f"box-root-{key}", ".building-link")
    assert entries() == sorted((current, recent, *others, *links))
    assert (tmp_path / "elsewhere").exists()


def test_two_builds_do_not_overlap() -> None:
    waited: list[str] = []
    with image_store.locked(image_store.folder(), waited.append):
        second = subprocess.Popen(
            [
                *(sys.executable, "-uc"),
                "from cowtrace.vm import image_store\n"
                "with image_store.locked(image_store.folder(), print):\n"
                "    print('has it')",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert second.stdout
        assert second.stdout.readline() == "another build is running: waiting for it\n"
    assert second.communicate()[0] == "has it\n"
    assert not waited


def test_no_room_is_said_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CowtraceError, match=r"no room to build it: \d+ MiB needed") as caught:
        image_store.require_space(image_store.folder(), 1 << 40, "it")
    assert caught.value.exit_code == EXIT_NO_VM


def test_building_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    known = definition.load()
    with pytest.raises(CowtraceError, match="needs root") as caught, shown(0) as watcher:
        build.build(known, build.missing(known, ["6.1"]), watcher)
    assert caught.value.exit_code == EXIT_NO_VM


@pytest.mark.parametrize("program", host_programs.PACKAGES)
def test_a_missing_program_names_its_package(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_programs, "_PATH", str(tmp_path))
    with pytest.raises(CowtraceError, match=f"{program} is missing") as caught:
        host_programs.find(program)
    assert caught.value.hint == f"run: apt-get install {host_programs.PACKAGES[program]}"
    assert caught.value.exit_code == EXIT_NO_VM


def test_a_failed_step_shows_its_last_words(tmp_path: Path) -> None:
    seen: list[str] = []
    with pytest.raises(CowtraceError, match="the step failed: no such mirror") as caught:
        host_programs.run(
            ["sh", "-c", "echo one; echo no such mirror >&2; exit 3"],
            tmp_path / "log",
            what="the step",
            on_line=seen.append,
        )
    assert seen == ["one", "no such mirror"]
    assert str(tmp_path / "log") in caught.value.hint


def test_a_failed_step_names_the_first_error_of_apt(tmp_path: Path) -> None:
    script = "echo I: fine; echo E: no such host; echo E: apt-get failed; exit 1"
    with pytest.raises(CowtraceError, match=r"the step failed: no such host$"):
        host_programs.run(["sh", "-c", script], tmp_path / "log", what="the step")


def test_installed_packages_out_of_dpkgs_status() -> None:
    status = (
        "Package: zlib\nStatus: install ok installed\nVersion: 1:1.3\nDescription: a\n b: c\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: bash\nStatus: install ok installed\nVersion: 5.2-1\n"
    )
    assert manifest.installed(status) == ("bash=5.2-1", "zlib=1:1.3")


def test_the_package_that_a_busybox_came_from() -> None:
    assert manifest.busybox(b"\0BusyBox v1.30.1 (Debian 1:1.30.1-6+b3)\0") == "1:1.30.1-6+b3"
    assert manifest.busybox(b"\0BusyBox v1.30.1\0") == "unknown"


def test_a_manifest_of_before_there_were_tools_in_it(tmp_path: Path) -> None:
    made = manifest.Manifest("trixie", "6.12", ("a=1",), (("f", "0"),), "now", ("cpio=2",))
    manifest.write(tmp_path, made)
    assert manifest.read(tmp_path) == made
    file = tmp_path / manifest.NAME
    file.write_text(
        json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "tools"})
    )
    assert manifest.read(tmp_path) == dataclasses.replace(made, tools=())


def test_the_tools_are_those_that_this_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all("=" in tool for tool in manifest.tools())
    monkeypatch.setattr(host_programs, "_PATH", "/nowhere")
    assert manifest.tools() == ()


def test_the_version_in_a_bzimage() -> None:
    line = "6.12.9-cloud-amd64 (kernel@example) #1 SMP Debian 6.12.9-1 (2026-01-01)"
    image = bytearray(0x1000)
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x20E, 0x600)
    image[0x800 : 0x800 + len(line)] = line.encode()
    assert manifest.banner(bytes(image)) == line
    assert kernel.parse_banner(line) == ("6.12.9-cloud-amd64", "6.12.9-1")
    with pytest.raises(ValueError, match="neither a bzImage nor an Image"):
        manifest.banner(bytes(0x1000))


@pytest.mark.parametrize("magic", [b"ARM\x64", b"RSC\x05"])
def test_the_version_in_an_image_of_arm64_or_riscv64(magic: bytes) -> None:
    line = (
        "Linux version 6.12.9-arm64-16k (kernel@example) (gcc-14 (Debian 14.2.0-19) 14.2.0) "
        "#1 SMP Debian 6.12.9-1 (2026-01-01)\n"
    )
    image = bytearray(0x1000)
    image[0x38:0x3C] = magic
    with pytest.raises(ValueError, match="without a version"):
        manifest.banner(bytes(image))
    image[0x400:0x430] = b"Linux version %s (%s)\n".ljust(0x30, b"\0")  # linux_proc_banner
    image[0x800 : 0x800 + len(line)] = line.encode()
    banner = manifest.banner(bytes(image))
    assert banner == "6.12.9-arm64-16k #1 SMP Debian 6.12.9-1 (2026-01-01)"
    assert kernel.parse_banner(banner) == ("6.12.9-arm64-16k", "6.12.9-1")


def test_backports_build_upon_their_suite() -> None:
    assert kernel.suites_of("trixie") == ("trixie",)
    assert kernel.suites_of("trixie-backports") == ("trixie-backports", "trixie")


def test_a_kernel_of_another_architecture_needs_its_own_root_image() -> None:
    known = definition.load()
    names = [artifact.name for artifact in build.missing(known, ["6.12-arm64-16k", "6.12"])]
    assert names == ["arm64 root image", "root image", "kernel 6.12-arm64-16k", "kernel 6.12"]
    places = {build.root_artifact(known.userspace_of(k)).place.name for k in known.kernels}
    assert len(places) == 3


def test_what_decides_no_file_is_not_in_the_key() -> None:
    item = definition.load().kernel("6.12")
    place = build.kernel_artifact(item).place
    assert build.kernel_artifact(dataclasses.replace(item, usual=False)).place == place
    assert build.kernel_artifact(dataclasses.replace(item, cpu=("cx16=off",))).place == place
    assert build.kernel_artifact(dataclasses.replace(item, arch="arm64")).place != place


def test_programs_of_another_architecture_are_registered_by_their_elf_head() -> None:
    rule = foreign.registration("cowtrace-arm64", "arm64", "/usr/bin/qemu-aarch64-static")
    name, magic, mask = rule.split(b":")[1], rule.split(b":")[4], rule.split(b":")[5]
    assert name == b"cowtrace-arm64"
    head, bits = (bytes.fromhex(part.decode().replace("\\x", "")) for part in (magic, mask))
    assert len(head) == len(bits) == 20
    assert head[:4] == b"\x7fELF"
    assert int.from_bytes(head[18:], "little") == 183  # EM_AARCH64
    assert rule.endswith(b":/usr/bin/qemu-aarch64-static:F")
    own = Path("/proc/self/exe").read_bytes()[:20]
    fits = bytes(byte & bit for byte, bit in zip(own, bits, strict=True)) == head
    assert fits == (os.uname().machine == "aarch64")


def test_another_architecture_is_emulated(tmp_path: Path) -> None:
    (tmp_path / "kvm_amd").mkdir()
    (tmp_path / "kvm").mkdir()
    device = tmp_path / "device"
    device.touch()
    chosen = qemu.choose_accel({}, tmp_path, device, guest="aarch64", host="x86_64")
    assert str(chosen) == "software emulation (aarch64 on x86_64)"
    forced = {"COWTRACE_ACCEL": "kvm"}  # it cannot: QEMU would say so
    assert not qemu.choose_accel(forced, tmp_path, device, guest="aarch64", host="x86_64").kvm
    alike = qemu.choose_accel({}, tmp_path, device, guest="aarch64", host="aarch64")
    assert str(alike).startswith("KVM (kvm is loaded")


def test_modules_are_loaded_after_what_they_need() -> None:
    depends = kernel.parse_depends(
        "kernel/a/virtio-pci.ko.xz: kernel/b/virtio_ring.ko.xz kernel/b/virtio.ko.xz\n"
        "kernel/b/virtio_ring.ko.xz: kernel/b/virtio.ko.xz\n"
        "kernel/b/virtio.ko.xz:\n"
    )
    order = kernel.load_order(("virtio_pci", "virtio_ring", "built_in"), depends)
    assert order == [
        "kernel/b/virtio.ko.xz",
        "kernel/b/virtio_ring.ko.xz",
        "kernel/a/virtio-pci.ko.xz",
    ]
    assert kernel.plain_name(order[0]) == "kernel/b/virtio.ko"


def test_the_mirror_is_the_hosts_or_the_environments() -> None:
    listing = (
        "http://a.example/tools\tnodistro\tTools\tmain\n"
        "http://b.example/debian-security\tbookworm-security\tDebian-Security\tmain\n"
        "http://b.example/debian\tbookworm-updates\tDebian\tmain\n"
        "http://b.example/debian\tbookworm\tDebian\tcontrib\n"
        "http://b.example/debian\tbookworm\tDebian\tmain\n"
        "$(REPO_URI)\n"
    )
    assert debian.first_debian(listing) == "http://b.example/debian"
    assert debian.first_debian("") is None
    assert debian.mirror({"COWTRACE_MIRROR": "http://snap.example"}) == "http://snap.example"


def test_no_mirror_is_an_expected_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_programs, "_PATH", "/nowhere")
    with pytest.raises(CowtraceError, match="names no Debian mirror"):
        debian.mirror({})


def test_kvm_is_used_only_where_its_module_is_there(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch()
    alone = qemu.choose_accel({}, tmp_path, device, host="x86_64")
    assert not alone.kvm
    assert "alone proves nothing" in str(alone)
    (tmp_path / "kvm_amd").mkdir()
    assert str(qemu.choose_accel({}, tmp_path, device, host="x86_64")).startswith(
        "KVM (kvm_amd is loaded"
    )
    device.unlink()
    assert str(qemu.choose_accel({}, tmp_path, device, host="x86_64")).endswith(
        "No such file or directory)"
    )
    assert not qemu.choose_accel({"COWTRACE_ACCEL": "tcg"}, tmp_path, device, host="x86_64").kvm
    assert qemu.choose_accel({"COWTRACE_ACCEL": "kvm"}, tmp_path, device, host="x86_64").kvm
    with pytest.raises(CowtraceError, match="COWTRACE_ACCEL is 'hvf'"):
        qemu.choose_accel({"COWTRACE_ACCEL": "hvf"}, host="x86_64")
