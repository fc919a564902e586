"""Choose how QEMU runs the guest, KVM or software emulation, and build its command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.vm.guest_arch import ARCHES, Arch

APPEND = "quiet panic=-1 mitigations=off cowtrace.run"
# The guest's ports, vport0p1 and on, as guest/run and tracer/host_compiler.py know them; then
# QEMU's own monitor.
PORTS = ("control", "stdout", "stderr", "terminal", "compiler")
SOCKETS = (*PORTS, "monitor")


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


def choose_accel(
    environ: Mapping[str, str] = os.environ,
    modules: Path = Path("/sys/module"),
    device: Path = Path("/dev/kvm"),
    *,
    guest: str = ARCHES["amd64"].machine,
    host: str | None = None,
) -> Accel:
    """KVM if this machine can run a stock kernel with it; COWTRACE_ACCEL=kvm or tcg overrides.

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


@dataclass(frozen=True, slots=True)
class Machine:
    """One boot. The guest's writes to its first disk are discarded; the second is read-only."""

    accel: Accel
    kernel: Path  # folder with vmlinuz and initrd
    root: Path  # ext4 image
    disk: Path  # second disk: tree.pack
    programs: Path  # third disk: programs_disk
    console: Path  # the kernel's messages go here
    memory_mib: int = 2048
    cpus: int = 2
    sockets: tuple[int, ...] = ()  # descriptors that QEMU inherits, in the order of SOCKETS
    state_fd: int | None = None  # a file from saved.save: restore it instead of booting
    icount: bool = False  # guest time is 2 ns an instruction; needs emulation and one CPU
    arch: Arch = ARCHES["amd64"]
    cpu: str = ""  # -cpu; empty: the host's with KVM, else the architecture's usual one
    append: str = ""  # more kernel parameters
    compiles: bool = False  # the host does, for the guest: see compiler.py


def command_line(qemu: str, machine: Machine) -> list[str]:
    """The arguments to start the machine."""
    guest = machine.arch
    accel, cpu = ("kvm", "host") if machine.accel.kvm else (guest.emulation, guest.cpu)
    if machine.icount:
        accel = "tcg"  # QEMU counts instructions with one thread only
    append = f"console={guest.console} {guest.append} {APPEND}"
    argv = [
        *(qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *(*guest.board, "-accel", accel, "-cpu", machine.cpu or cpu),
        *("-smp", str(machine.cpus), "-m", f"{machine.memory_mib}M"),
        *("-kernel", str(machine.kernel / "vmlinuz"), "-initrd", str(machine.kernel / "initrd")),
        *("-append", f"{append} {machine.append}" if machine.append else append),
        *("-drive", f"file={_escaped(machine.root)},if=virtio,format=raw,cache=unsafe,snapshot=on"),
        *("-drive", f"file={_escaped(machine.disk)},if=virtio,format=raw,readonly=on"),
        *("-drive", f"file={_escaped(machine.programs)},if=virtio,format=raw,cache=unsafe"),
        *("-chardev", f"file,id=console,path={_escaped(machine.console)}"),
        *("-serial", "chardev:console", "-device", "virtio-serial-pci"),
    ]
    for name, descriptor in zip(SOCKETS, machine.sockets, strict=True):
        argv += ["-chardev", f"socket,id={name},fd={descriptor}"]
    for number, name in enumerate(PORTS, start=1):
        if name == "compiler" and not machine.compiles:
            continue
        device = "virtconsole" if name == "terminal" else "virtserialport"
        argv += ["-device", f"{device},nr={number},chardev={name},name=cowtrace.{name}"]
    argv += ["-mon", "chardev=monitor,mode=control"]
    if machine.icount:
        argv += ["-icount", "shift=1,sleep=off"]
    if machine.state_fd is not None:
        argv += ["-incoming", f"fd:{machine.state_fd}"]
    return argv


def _escaped(path: Path) -> str:
    """A path for a QEMU option, where a single comma ends the value."""
    return str(path).replace(",", ",,")
