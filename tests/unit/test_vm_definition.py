"""vagrant/kernels.toml: what is in it, what is refused, which name is suggested."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.vm import definition

VALID = """
[kernels."6.12"]
suite = "trixie"
package = "linux-image-cloud-amd64"
[modules]
boot = ["virtio_pci"]
disk = ["virtio_blk"]
extra = []
[userspace]
suite = "trixie"
size_mib = 100
packages = ["python3"]
"""


def test_the_projects_own_definition() -> None:
    known = definition.load()
    suites = {kernel.name: kernel.suite for kernel in known.kernels if kernel.usual}
    assert tuple(suites) == known.usual
    assert suites == {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "7.2": "forky"}
    assert "python3-bpfcc" in known.userspace.packages
    assert known.kernel("6.1").disk_modules == ("virtio_blk",)


def test_an_emulated_processor_lacks_what_a_kernel_cannot_have() -> None:
    known = definition.load()
    usual = known.kernel("6.12").emulated_cpu
    assert known.kernel("6.12-backports").emulated_cpu == f"{usual},cx16=off"


def test_arm64_in_pages_of_4_and_16_kib() -> None:
    known = definition.load()
    for name in ("6.12-arm64", "6.12-arm64-16k"):
        kernel = known.kernel(name)
        assert (kernel.arch, kernel.usual) == ("arm64", False)
        assert kernel.disk_modules[0] == "virtio_blk"
        assert known.userspace_of(kernel).packages == known.userspace.packages
        assert known.userspace_of(kernel) != known.userspace


def test_a_userspace_is_without_what_its_architecture_lacks() -> None:
    known = definition.load()
    kernel = known.kernel("6.12-riscv64")
    assert (kernel.arch, kernel.usual) == ("riscv64", False)
    lacking = set(known.userspace.packages) - set(known.userspace_of(kernel).packages)
    assert lacking == {"tcc"}
    assert "tcc" in known.userspace_for("amd64").packages


@pytest.mark.parametrize(
    ("typed", "nearest"), [("6.13", "6.1"), ("6.12.3", "6.12"), ("5.1", "5.10"), ("7", "7.3")]
)
def test_an_unknown_kernel_suggests_the_nearest(typed: str, nearest: str) -> None:
    with pytest.raises(CowtraceError, match=f"no kernel '{typed}'") as caught:
        definition.load().kernel(typed)
    assert caught.value.hint.startswith(f"did you mean {nearest}? known: 5.10, ")
    assert caught.value.exit_code == EXIT_USAGE


def test_a_name_like_none_suggests_none() -> None:
    with pytest.raises(CowtraceError) as caught:
        definition.load().kernel("mainline")
    assert caught.value.hint.startswith("known: ")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("size_mib = 100", "", "no 'size_mib'"),
        ("size_mib = 100", "size_mib = 0", "size_mib is 0"),
        ('suite = "trixie"', "suite = 13", "13 is not a name"),
        ('packages = ["python3"]', 'packages = "python3"', "packages is not a list"),
        ("[modules]", "[modules", "Expected ']'"),
        ("[modules]", 'arch = "m68k"\n[modules]', "'m68k' is no architecture of amd64, arm64"),
        ("[modules]", 'disk = "ext4"\n[modules]', "kernels.6.12.disk is not a list"),
    ],
)
def test_what_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    file = tmp_path / "kernels.toml"
    file.write_text(VALID.replace(old, new))
    with pytest.raises(CowtraceError) as caught:
        definition.load(file)
    assert says in str(caught.value)
    assert str(file) in caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CowtraceError) as caught:
        definition.load(tmp_path / "none.toml")
    assert "none.toml" in caught.value.hint
