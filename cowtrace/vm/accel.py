"""Choose how QEMU runs the guest: KVM if it can run a stock kernel, else software emulation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.vm import guest_arch


@dataclass(frozen=True, slots=True)
class Accel:
    """The choice, and the reason that users read."""

    kvm: bool
    why: str

    @property
    def name(self) -> str:
        return "KVM" if self.kvm else "software emulation"

    def __str__(self) -> str:
        return f"{self.name} ({self.why})"


def choose(
    environ: Mapping[str, str] = os.environ,
    modules: Path = Path("/sys/module"),
    device: Path = Path("/dev/kvm"),
    *,
    guest: str = guest_arch.ARCHES["amd64"].machine,
    host: str | None = None,
) -> Accel:
    """Choose by what this machine has; COWTRACE_ACCEL=kvm or tcg overrides.

    /dev/kvm alone proves nothing if neither kvm_intel nor kvm_amd is loaded: on some nested hosts
    it opens, and a stock kernel then hangs. On arm64, KVM is built into the kernel.

    guest, host: architectures, as `uname -m` prints them; host: None is this machine.
    """
    host = host or os.uname().machine
    if guest != host:
        return Accel(False, f"{guest} on {host}")
    if forced := environ.get("COWTRACE_ACCEL"):
        if forced not in ("kvm", "tcg"):
            raise CowtraceError(
                f"COWTRACE_ACCEL is '{forced}'", hint="use kvm or tcg", exit_code=EXIT_USAGE
            )
        return Accel(forced == "kvm", f"COWTRACE_ACCEL={forced}")
    names = ("kvm",) if host == "aarch64" else ("kvm_intel", "kvm_amd")
    module = next((name for name in names if (modules / name).is_dir()), None)
    if not module:
        reason = "kvm is not there"
        if len(names) > 1:
            reason = "neither kvm_intel nor kvm_amd is loaded"
        if device.exists():
            reason += f"; {device} alone proves nothing"
        return Accel(False, reason)
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Accel(False, f"{device}: {error.strerror}")
    return Accel(True, f"{module} is loaded and {device} opens")
