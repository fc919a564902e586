"""The command line of QEMU, the command's script, the disk, and the host's end of a session."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from cowtrace.cli import main
from cowtrace.errors import EXIT_NO_VM, EXIT_TIMEOUT, EXIT_USAGE
from cowtrace.vm import programs_disk, qemu, relay, run, saved, tree
from cowtrace.vm.guest_arch import ARCHES

EMULATED, KVM = qemu.Accel(False, "test"), qemu.Accel(True, "test")
SOCKETS = (3, 4, 5, 6, 7, 8)


def machine(accel: qemu.Accel = EMULATED) -> qemu.Machine:
    folder = Path("/cache,1")
    disks = folder / "root.ext4", Path("/d"), Path("/p")
    return qemu.Machine(accel, folder, *disks, Path("/c"), 512, 1, SOCKETS)


def test_qemus_command_line() -> None:
    argv = qemu.command_line("qemu", machine())
    text = " ".join(argv)
    assert argv[argv.index("-accel") + 1] == "tcg,thread=single"
    assert argv[argv.index("-m") + 1] == "512M"
    assert "file=/cache,,1/root.ext4,if=virtio" in text  # a comma is doubled
    assert "snapshot=on" in text
    assert "nr=1,chardev=control" in text
    assert "virtconsole,nr=4,chardev=terminal" in text
    assert "socket,id=monitor,fd=8" in text
    assert "-incoming" not in argv
    assert "mitigations=off" in argv[argv.index("-append") + 1]


def test_kvm_has_the_hosts_processor() -> None:
    argv = qemu.command_line("qemu", machine(KVM))
    assert argv[argv.index("-cpu") + 1] == "host"


def test_an_arm64_machine() -> None:
    argv = qemu.command_line("qemu", replace(machine(), arch=ARCHES["arm64"]))
    assert argv[argv.index("-machine") + 1] == "virt"
    assert argv[argv.index("-accel") + 1] == "tcg,thread=multi"
    assert argv[argv.index("-append") + 1].startswith("console=ttyAMA0 ")
    assert argv[argv.index("-cpu") + 1] == ARCHES["arm64"].cpu
    here = replace(machine(KVM), arch=ARCHES["arm64"])
    assert "host" in qemu.command_line("qemu", here)


def test_a_state_is_for_one_shape_of_machine() -> None:
    base = machine()
    path = saved.state_path("/bin/sh", base)
    assert path
    assert path.parent == base.kernel
    other_run = replace(
        base, disk=Path("/other"), programs=Path("/other"), sockets=(9, 10, 11, 12, 13, 14)
    )
    assert saved.state_path("/bin/sh", other_run) == path
    assert saved.state_path("/bin/sh", replace(base, cpus=2)) != path
    assert saved.state_path("/bin/sh", machine(KVM)) is None


def test_compiled_programs_are_carried_from_one_boot_to_the_next(tmp_path: Path) -> None:
    kernel, disk = tmp_path / "kernel", tmp_path / "disk"
    kernel.mkdir()
    programs_disk.load(kernel, disk)
    assert not any(disk.read_bytes())  # nothing has been compiled yet
    with tarfile.open(fileobj=disk.open("r+b"), mode="w") as tar:  # as the guest writes it
        tar.add(__file__, "program")
    programs_disk.save(disk, kernel)
    programs_disk.load(kernel, disk)
    with tarfile.open(disk) as tar:
        assert tar.getnames() == ["program"]
    assert [path.name for path in kernel.iterdir()] == ["programs.tar"]
    programs_disk.save(disk, tmp_path / "gone")  # a folder that cannot be written


@settings(max_examples=25, deadline=None)  # each starts two processes
@given(st.lists(st.binary(max_size=30).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))))
def test_every_argument_arrives_as_it_was_given(arguments: list[str]) -> None:
    show = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
    text = tree.script([sys.executable, "-c", show, *arguments], {"ODD": "a 'b' $c\n"})
    text = text.replace(b">/run/command.pid", b">/dev/null").replace(b"cd /cowtrace", b"cd /")
    # A file, as in the guest: /bin/sh -c would not take every byte in its argument.
    shown = subprocess.run(["sh"], input=text, capture_output=True, check=True).stdout
    assert shown == b"\0".join(map(os.fsencode, arguments))


def test_the_environment_in_the_guest() -> None:
    host = {"TERM": "xterm", "COLUMNS": "70", "HOME": "/home/me", "NO_COLOR": "1"}
    env = tree.environment("6.12", host, None)
    assert env["COWTRACE_VM"] == "1"
    assert env["COWTRACE_KERNEL"] == "6.12"
    assert env["PYTHONPATH"] == "/cowtrace"
    assert (env["TERM"], env["COLUMNS"], env["HOME"]) == ("xterm", "70", "/root")
    sized = tree.environment("6.12", host, os.terminal_size((100, 40)))
    assert (sized["COLUMNS"], sized["LINES"]) == ("100", "40")


def test_the_disk_holds_the_project_and_the_command(tmp_path: Path) -> None:
    disk = tmp_path / "disk.tar"
    tree.pack(disk, ["true"], {}, os.terminal_size((80, 24)))
    with tarfile.open(disk) as tar:
        names = set(tar.getnames())
        owners = {(member.uid, member.gid) for member in tar}
        terminal = tar.extractfile(".cowtrace/terminal")
        assert terminal
        assert terminal.read() == b"cols 80 rows 24\n"
    assert {".cowtrace/run", ".cowtrace/command", "cowtrace/cowtrace/vm/tree.py"} <= names
    assert {"cowtrace/bpf/cow.h", "cowtrace/tests/unit/test_vm_run.py"} <= names
    assert not any("/.git/" in name or "__pycache__" in name for name in names)
    assert owners == {(0, 0)}


def test_an_installed_package_travels_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "cowtrace"
    (package / "_bpf").mkdir(parents=True)
    (package / "_bpf/cow.h").touch()
    (package / "__init__.py").touch()
    (package / "__pycache__").mkdir()
    (package / "__pycache__/x.pyc").touch()
    (tmp_path / "other_package").mkdir()
    monkeypatch.setattr(tree, "_PACKAGE", package)
    names = {name for _, name in tree.project_files()}
    assert names == {"cowtrace/__init__.py", "cowtrace/_bpf/cow.h"}


class Guest:
    """Plays QEMU and the guest at the other ends of a Session's sockets."""

    def __init__(self) -> None:
        pairs = {name: socket.socketpair() for name in qemu.PORTS}
        self.theirs = {name: pair[0] for name, pair in pairs.items()}
        self.ours = {name: pair[1] for name, pair in pairs.items()}
        self.process: subprocess.Popen[bytes] = subprocess.Popen(["sleep", "100"])
        self.calls: list[str] = []

    def session(self, timeout: float | None = None) -> relay.Session:
        return relay.Session(
            self.process,
            self.theirs,
            False,
            timeout,
            on_booted=lambda: self.calls.append("booted"),
            on_ready=lambda: self.calls.append("ready"),
        )

    def close(self) -> None:
        for end in self.ours.values():
            end.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def guest() -> Guest:
    return Guest()


def test_output_and_code_come_back(guest: Guest, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def play() -> None:
        control = guest.ours["control"]
        control.sendall(b"booted\n")
        assert abs(int(control.recv(100)) - time.time()) < 10
        control.sendall(b"rea")
        control.sendall(b"dy\n")
        guest.ours["stdout"].sendall(bytes(range(256)) * 1000)
        guest.ours["stderr"].sendall(b"\xff\0err")
        control.sendall(b"exit 7\n")
        guest.close()

    thread = threading.Thread(target=play)
    thread.start()
    run_ = guest.session()
    assert run_.relay(started=False) == 7
    assert run_.finished
    thread.join()
    out, err = capfdbinary.readouterr()
    assert out == bytes(range(256)) * 1000
    assert err == b"\xff\0err"
    assert guest.calls == ["booted", "ready"]


def test_a_vm_that_dies_has_no_code(guest: Guest) -> None:
    guest.ours["control"].sendall(b"ready\n")
    guest.close()
    run_ = guest.session()
    assert run_.relay(started=True) is None
    assert run_.ready


def test_the_time_limit_ends_it(guest: Guest) -> None:
    run_ = guest.session(timeout=0.1)
    assert run_.relay(started=False) == EXIT_TIMEOUT
    assert not run_.finished  # the guest may be writing what it compiled: nothing of it is kept
    assert guest.process.wait() == -signal.SIGKILL


def test_a_vm_that_never_comes_up_ends(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "BOOT_SECONDS", 0.1)
    run_ = guest.session()
    assert run_.relay(started=False) is None
    assert not run_.ready


def test_the_first_signal_goes_to_the_command_the_second_ends_the_vm(guest: Guest) -> None:
    def play() -> None:
        control = guest.ours["control"]
        control.sendall(b"ready\n")
        control.recv(100)  # the time
        while "ready" not in guest.calls:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        received.append(control.recv(100))
        os.kill(os.getpid(), signal.SIGINT)
        guest.process.wait()
        guest.close()

    received: list[bytes] = []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=play)
    thread.start()
    assert guest.session().relay(started=True) == 128 + signal.SIGINT
    thread.join()
    assert received == [b"INT\n"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_panic_is_told_with_the_consoles_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    console = tmp_path / "console"
    console.write_text("[ 1.0] hello\n[ 2.0] Kernel panic - not syncing: \x1b[31mno init\n")
    ended = run.Ended(None, True, "")
    error = run.stopped("6.12", console, ended, EMULATED)
    assert str(error).startswith("kernel 6.12 stopped: Kernel panic - not syncing: ")
    assert error.exit_code == EXIT_NO_VM
    assert "  6.12| [ 1.0] hello\n" in capsys.readouterr().err
    assert "\x1b" not in str(error)


def test_what_qemu_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    console = tmp_path / "console"
    console.touch()
    error = run.stopped("6.12", console, run.Ended(None, False, "a\nno memory"), EMULATED)
    assert str(error) == "QEMU cannot run kernel 6.12: no memory"
    stalled = run.stopped("6.12", console, run.Ended(None, False, ""), KVM)
    assert "did not come up" in str(stalled)
    assert "COWTRACE_ACCEL=tcg" in stalled.hint


def test_images_in_a_folder_of_another_user_are_refused(tmp_path: Path) -> None:
    """As `sudo -E` or `su` could find them."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    store = tmp_path / "cowtrace" / "vm"
    store.mkdir(parents=True)
    os.chown(tmp_path, 65534, 65534)
    for command in (["list"], ["run", "6.12", "true"], ["build", "6.12"]):
        result = CliRunner().invoke(main, ["vm", *command], env={"XDG_CACHE_HOME": str(tmp_path)})
        assert result.exit_code == 1, result.output
        assert "other users can exchange files in" in result.output
    assert not list(store.iterdir())


def test_the_list_needs_no_root_and_fits(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["vm", "list"], env={"XDG_CACHE_HOME": str(tmp_path)})
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].split() == ["KERNEL", "SUITE", "VERSION", "BUILT", "MIB"]
    names = [line.split()[0] for line in lines[1:]]
    assert names[:4] == ["5.10", "6.1", "6.12", "7.2"]
    assert [name for name in names if name[0] == "("] == [
        "(root)",
        "(root-arm64)",
        "(root-riscv64)",
    ]
    assert all(len(line) <= 80 for line in lines)


def test_an_unknown_kernel_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["vm", "run", "6.13", "--", "true"])
    assert result.exit_code == EXIT_USAGE
    assert "did you mean 6.1?" in result.output
    assert "Traceback" not in result.output
