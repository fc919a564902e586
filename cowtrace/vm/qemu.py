"""Build QEMU's command line for a Machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cowtrace.vm.accel import Accel
from cowtrace.vm.guest_arch import ARCHES, Arch

APPEND = "quiet panic=-1 mitigations=off cowtrace.run"
# The guest's ports, vport0p1 and on, as guest/run knows them; then QEMU's own monitor.
PORTS = ("control", "stdout", "stderr", "terminal")
SOCKETS = (*PORTS, "monitor")


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
    cpu: str = ""  # -cpu without KVM; empty: the architecture's usual one


def command_line(qemu: str, machine: Machine) -> list[str]:
    """The arguments to start the machine."""
    guest = machine.arch
    accel = ("kvm", "host") if machine.accel.kvm else (guest.emulation, machine.cpu or guest.cpu)
    if machine.icount:
        accel = ("tcg", accel[1])  # QEMU counts instructions with one thread only
    argv = [
        *(qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *(*guest.board, "-accel", accel[0], "-cpu", accel[1]),
        *("-smp", str(machine.cpus), "-m", f"{machine.memory_mib}M"),
        *("-kernel", str(machine.kernel / "vmlinuz"), "-initrd", str(machine.kernel / "initrd")),
        *("-append", f"console={guest.console} {APPEND}"),
        *("-drive", f"file={_escaped(machine.root)},if=virtio,format=raw,cache=unsafe,snapshot=on"),
        *("-drive", f"file={_escaped(machine.disk)},if=virtio,format=raw,readonly=on"),
        *("-drive", f"file={_escaped(machine.programs)},if=virtio,format=raw,cache=unsafe"),
        *("-chardev", f"file,id=console,path={_escaped(machine.console)}"),
        *("-serial", "chardev:console", "-device", "virtio-serial-pci"),
    ]
    for name, descriptor in zip(SOCKETS, machine.sockets, strict=True):
        argv += ["-chardev", f"socket,id={name},fd={descriptor}"]
    for number, name in enumerate(PORTS, start=1):
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
