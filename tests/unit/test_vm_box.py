"""The Vagrant box: what is in it, when it is made anew, what Vagrantfile is told."""

from __future__ import annotations

import json
import stat
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from cowtrace.cli.vm import vm
from cowtrace.errors import EXIT_NO_VM, EXIT_USAGE, CowtraceError
from cowtrace.vm import box, build, definition, host_programs, image_store, manifest, root

KNOWN = definition.load()
TOOLS = {
    "qemu-img": 'for last; do :; done; shift 6; cp "$1" "$last"; echo >>"$0.log"',
    "vagrant": "exit 1",
}


@pytest.fixture(autouse=True)
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of its own, with 6.12 built; qemu-img copies. Returns the programs' folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COWTRACE_BOXES", str(tmp_path / "boxes"))
    monkeypatch.setenv("COWTRACE_ACCEL", "tcg")
    monkeypatch.setattr("os.uname", lambda: type("", (), {"machine": "x86_64"}))
    folder = tmp_path / "tools"
    folder.mkdir()
    for name, script in TOOLS.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setattr(host_programs, "_PATH", f"{folder}:/usr/bin:/bin")
    built(b"root")
    return folder


def built(image: bytes) -> None:
    """Put a made-up build of 6.12 and of its root image into the cache."""
    image_store.folder().mkdir(parents=True, exist_ok=True)
    for artifact, files in (
        (build.root_artifact(KNOWN.userspace), {root.IMAGE: image}),
        (
            build.kernel_artifact(KNOWN.kernel("6.12")),
            {"vmlinuz": b"vmlinuz", "initrd": b"initrd", "config": b"config"},
        ),
    ):
        with image_store.staged(artifact.place) as place:
            for name, content in files.items():
                (place / name).write_bytes(content)
            digests = manifest.digests(*sorted(place.iterdir()))
            manifest.write(place, manifest.Manifest("trixie", "6.12.9", ("a=1",), digests, "now"))


def publish(*names: str) -> list[str]:
    """What it says that it does, the folder left out."""
    said: list[str] = []
    box.publish(KNOWN, names or ("6.12",), said.append)
    return [words.removesuffix(f" {box.folder()}") for words in said]


def test_the_box_is_the_root_image_with_what_libvirt_wants_to_know() -> None:
    assert publish() == ["copying kernel 6.12 to", "packing the root image as a box in"]
    found = box.find(KNOWN, "6.12")
    assert found.vmlinuz.read_bytes() == b"vmlinuz"
    assert found.initrd.read_bytes() == b"initrd"
    with tarfile.open(found.file) as tar:
        members = {member.name: tar.extractfile(member) for member in tar}
        content = {name: file.read() for name, file in members.items() if file}
    about = json.loads(content["metadata.json"])
    assert about == {"provider": "libvirt", "format": "qcow2", "virtual_size": 1}
    assert content["box.img"] == b"root"
    inside = json.loads(content["manifest.json"])
    assert inside["packages"] == ["a=1"]
    assert [name for name, _ in inside["sha256"]] == ["root.ext4", "box.img"]
    beside = manifest.read(found.file.parent)
    assert beside
    assert dict(beside.sha256)["cowtrace.box"] == dict(manifest.digests(found.file))["cowtrace.box"]


def test_everyone_can_read_what_is_published(tmp_path: Path) -> None:
    publish()
    for path in (tmp_path / "boxes").rglob("*"):
        wanted = 0o755 if path.is_dir() else 0o600 if path.name == "lock" else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_what_is_current_is_not_made_again(tools: Path) -> None:
    publish()
    assert publish() == []
    assert (tools / "qemu-img.log").read_text() == "\n"


def test_another_root_image_is_another_box_and_the_same_one_the_same() -> None:
    publish()
    first = box.find(KNOWN, "6.12")
    data = first.file.read_bytes()
    built(b"another root")
    assert publish() == ["packing the root image as a box in"]
    assert box.find(KNOWN, "6.12").name != first.name
    built(b"root")
    publish()
    assert box.find(KNOWN, "6.12") == first
    assert first.file.read_bytes() == data


def test_a_failed_packing_leaves_the_old_box_and_says_why(tools: Path) -> None:
    publish()
    before = box.find(KNOWN, "6.12").file.read_bytes()
    (tools / "qemu-img").write_text("#!/bin/sh\necho the disk is full\nexit 1\n")
    built(b"another root")
    with pytest.raises(CowtraceError, match="packing the root image failed: the disk is full"):
        publish()
    assert box.find(KNOWN, "6.12").file.read_bytes() == before
    assert not list(box.folder().glob(".*"))


@pytest.mark.parametrize(
    ("kernel", "says", "hint", "code"),
    [
        ("6.13", "no kernel '6.13'", "did you mean 6.1?", EXIT_USAGE),
        ("6.12-arm64", "6.12-arm64 is of arm64", "cowtrace vm run 6.12-arm64 --", EXIT_USAGE),
        ("6.1", "kernel 6.1 is not built for", "sudo cowtrace vm build --box 6.1", EXIT_NO_VM),
    ],
)
def test_a_kernel_that_vagrant_cannot_boot(kernel: str, says: str, hint: str, code: int) -> None:
    publish()
    with pytest.raises(CowtraceError, match=says) as caught:
        box.find(KNOWN, kernel)
    assert hint in caught.value.hint
    assert caught.value.exit_code == code


def test_without_a_box_the_command_that_makes_it_is_named() -> None:
    with pytest.raises(CowtraceError, match="the box is not built for Vagrant") as caught:
        box.find(KNOWN, "6.12")
    assert caught.value.hint == "run: sudo cowtrace vm build --box 6.12"


@pytest.mark.parametrize("program", TOOLS)
def test_a_missing_program_is_said_before_anything_is_built(
    program: str, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_programs, "_PATH", str(tools))
    (tools / program).unlink()
    result = CliRunner().invoke(vm, ["build", "--box", "5.10"])
    assert isinstance(result.exception, CowtraceError)
    assert str(result.exception).startswith(f"{program} is missing")
    assert result.exception.hint == f"run: apt-get install {host_programs.PACKAGES[program]}"


def test_the_vagrantfile_is_told_what_to_boot_and_how() -> None:
    publish()
    result = CliRunner().invoke(vm, ["box", "6.12"])
    row = json.loads(result.stdout)
    found = box.find(KNOWN, "6.12")
    assert row == {
        "name": found.name,
        "file": str(found.file),
        "vmlinuz": str(found.vmlinuz),
        "initrd": str(found.initrd),
        "cmdline": box.CMDLINE,
        "cpu": "max,xsave=off,avx=off",
        "kvm": False,
        "accel": "software emulation (COWTRACE_ACCEL=tcg)",
    }


def test_the_folder_is_the_systems_unless_named() -> None:
    assert box.folder({}) == Path("/var/cache/cowtrace")
    assert box.folder({"COWTRACE_BOXES": "/x"}) == Path("/x")
