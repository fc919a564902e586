"""Save the state of a booted machine, so that the next run starts there instead of booting.

The state is taken when the kernel is up and has seen no disk. Software emulation needs 10 s of
processor time to boot a kernel, and 0.5 s to restore one. A state fits one QEMU, one kernel build
and one size of machine: its file name has a key of all three.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path

from cowtrace.vm import image_store
from cowtrace.vm.qemu import SOCKETS, Machine, command_line

_ROOM_BYTES = 1 << 30  # save nothing with less free disk space; a state takes 130 MB


def state_path(program: str, machine: Machine) -> Path | None:
    """The file of this machine's state, which may not exist yet. None with KVM: it boots fast.

    None with icount too: QEMU cannot restore a machine that counts instructions.
    """
    if machine.accel.kvm or machine.icount:
        return None
    # Runs differ in these paths and descriptors, but the machine is the same.
    anonymous = replace(
        machine,
        disk=Path(),
        programs=Path(),
        console=Path(),
        root=Path(),
        sockets=(0,) * len(SOCKETS),
    )
    binary = Path(program).resolve().stat()
    key = image_store.key(
        str((binary.st_size, binary.st_mtime_ns)), *command_line(program, anonymous)
    )
    return machine.kernel / f"booted-{key}"


def save(monitor: socket.socket, path: Path) -> None:
    """Write the running machine's state to `path`, if there is room, and let it continue.

    monitor: QEMU's QMP. Only the newest state of a kernel is kept.
    """
    if shutil.disk_usage(path.parent).free < _ROOM_BYTES or not os.access(path.parent, os.W_OK):
        return
    for other in path.parent.glob("booted-*"):
        other.unlink(missing_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    with monitor.makefile("rwb") as stream:

        def command(name: str, **arguments: object) -> dict[str, object]:
            request = {"execute": name, "arguments": arguments}
            stream.write(json.dumps(request).encode() + b"\n")
            stream.flush()
            while line := stream.readline():
                answer = json.loads(line)
                if "return" in answer:
                    return dict(answer["return"])
                if "error" in answer:
                    break
            raise OSError(f"QEMU refuses {name}")

        try:
            command("qmp_capabilities")
            command("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            command("migrate", uri=f"exec:cat >{shlex.quote(str(partial))}")
            while (status := command("query-migrate").get("status")) not in ("completed", "failed"):
                time.sleep(0.02)
            if status == "completed":
                partial.rename(path)
            command("cont")
        except OSError:
            partial.unlink(missing_ok=True)  # the next run boots again
