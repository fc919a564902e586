"""What this kernel is found to refuse: by its answers to trial probes, which are made up here."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from cowtrace import libc
from cowtrace.kernel import trial_programs

NO_ENTRY = "this kernel takes no kprobe where a function begins"


@pytest.mark.parametrize(
    ("machine", "answers", "refused"),
    [
        ("x86_64", {"cowtrace_no_function": errno.ENOENT}, None),
        ("x86_64", {"cowtrace_no_function": errno.EACCES}, "opening a kprobe: Permission denied"),
        ("riscv64", {"cowtrace_no_function": errno.EPERM}, "opening a kprobe: Operation not"),
        ("riscv64", {"cowtrace_no_function": errno.ENOENT, "do_wp_page": errno.EINVAL}, NO_ENTRY),
        ("riscv64", {"cowtrace_no_function": errno.ENOENT, "do_wp_page": 0}, None),
        ("riscv64", {"cowtrace_no_function": errno.ENOENT, "do_wp_page": errno.EBUSY}, None),
    ],
)
def test_why_no_kprobe_can_be_opened(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    machine: str,
    answers: dict[str, int],
    refused: str | None,
) -> None:
    asked = []

    def syscall(number: int, event: bytes, *_: int) -> int:
        (at,) = struct.unpack_from("<Q", event, 56)
        name = ctypes.string_at(at).decode()
        asked.append(name)
        if answers[name]:
            ctypes.set_errno(answers[name])
            return -1
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    kind = tmp_path / "type"
    kind.write_text("8\n")
    monkeypatch.setattr(trial_programs, "Path", lambda _: kind)
    monkeypatch.setattr(libc, "libc", lambda: SimpleNamespace(syscall=syscall))
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    found = trial_programs.kprobes_refused()
    assert found == refused or (refused and found and found.startswith(refused))
    assert asked == list(answers)
