"""`cowtrace run` over a made-up tracer: exit codes, signals, streams, and whom it follows."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

import faked
import pytest
import warm
from snapshots import process, row, snapshot
from test_top import FAKED, read_all

from cowtrace.cli.choice import families
from cowtrace.model import FaultKind

GLIBC_OWN = 3 << 31  # signals 32 and 33: posix_spawn(3) ignores them, nobody else uses them


def cowtrace(
    *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return warm.run(faked.run, "run", *arguments, env=env)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 137),
        (["sh", "-c", "kill -TERM $$"], 143),
    ],
)
def test_the_exit_code_is_the_commands(command: Sequence[str], code: int) -> None:
    result = cowtrace("--", *command)
    assert result.returncode == code
    assert f": exit code {code} after 0." in result.stderr
    assert "\x1b" not in result.stderr


def test_its_own_options_need_no_dashes() -> None:
    assert cowtrace("sh", "-c", "exit 7").returncode == 7


def test_no_command() -> None:
    assert cowtrace().returncode == 2


def test_not_found(tmp_path: Path) -> None:
    log = tmp_path / "log"
    result = cowtrace("--", "no-such-command", env={"FAKED_LOG": str(log)})
    assert result.returncode == 127
    assert result.stderr.splitlines()[0] == "cowtrace: command not found: no-such-command"
    assert len(result.stderr.splitlines()) == 2
    assert not log.exists()  # found out before anything is attached
    assert cowtrace("--", str(tmp_path / "x\x1b[31m")).stderr.count("\x1b") == 0


@pytest.mark.parametrize(
    ("content", "mode"),
    [(b"#!/bin/sh\n", 0o644), (b"#!/no/such/interpreter\n", 0o755), (b"no program\n", 0o755)],
)
def test_not_executable(tmp_path: Path, content: bytes, mode: int) -> None:
    script = tmp_path / "script"
    script.write_bytes(content)
    script.chmod(mode)
    result = cowtrace("--", str(script))
    assert result.returncode == 126
    assert len(result.stderr.splitlines()) == 2
    assert result.stderr.startswith(f"cowtrace: cannot execute {script}: ")
    assert cowtrace("--", str(tmp_path)).returncode == 126


def test_streams_are_the_commands_own() -> None:
    result = cowtrace("--", "sh", "-c", "echo out; echo err >&2")
    assert result.stdout == "out\n"
    assert result.stderr.startswith("err\n")
    assert "COMM" in result.stderr


def test_json_stands_alone_on_stdout() -> None:
    result = cowtrace("--json", "--", "sh", "-c", "echo out; exit 7")
    assert result.returncode == 7
    assert json.loads(result.stdout)["plan"] == "kprobe"
    assert result.stderr == "out\n"


def test_output_takes_the_summary_and_leaves_both_streams(tmp_path: Path) -> None:
    file = tmp_path / "summary"
    result = cowtrace("--json", "-o", str(file), "--", "sh", "-c", "echo out; echo err >&2")
    assert (result.stdout, result.stderr) == ("out\n", "err\n")
    assert json.loads(file.read_text())["lost"] == 0
    assert cowtrace("-o", str(file), "--", "true").stderr == ""
    assert file.read_text().startswith("true: exit code 0 after 0.")


def test_an_unwritable_output_is_found_before_the_start(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    result = cowtrace("-o", str(tmp_path / "no" / "file"), "--", "touch", str(mark))
    assert result.returncode == 1
    assert result.stderr.splitlines()[0].endswith("No such file or directory")
    assert not mark.exists()


def test_the_command_starts_when_the_probes_are_attached(tmp_path: Path) -> None:
    log = tmp_path / "log"
    cowtrace("--", "sh", "-c", f"echo command >> {log}", env={"FAKED_LOG": str(log)})
    assert log.read_text() == "attached\ncommand\nclosed\n"


def test_signals_begin_as_they_were() -> None:
    script = "grep -E 'Sig(Blk|Ign)' /proc/self/status; ps -o pgid= -p $$ -p $PPID"
    traced, plain = (
        subprocess.run([*before, "sh", "-c", script], capture_output=True, text=True).stdout.split()
        for before in ([sys.executable, FAKED, "run", "--"], [])
    )
    assert [int(mask, 16) & ~GLIBC_OWN for mask in traced[1:4:2]] == [
        int(mask, 16) & ~GLIBC_OWN for mask in plain[1:4:2]
    ]
    assert traced[4] == traced[5]  # one process group


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_signals_are_passed_on(number: signal.Signals) -> None:
    # Blocked and waited for: a signal between `print` and signal.pause() would be slept through.
    code = (
        f"import signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}])\n"
        f"print('ready', flush=True); signal.sigwait([{int(number)}]); sys.exit(9)"
    )
    running = subprocess.Popen(
        [sys.executable, FAKED, "run", "--", sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout
    assert running.stdout.readline() == "ready\n"
    running.send_signal(number)
    running.communicate(timeout=30)
    assert running.returncode == 9


def test_only_its_family_is_counted() -> None:
    # the made-up tracer knows these as born of cowtrace itself, not of the command
    result = cowtrace("--json", "--", "true", env={"FAKED_CHILDREN": "1 2"})
    assert json.loads(result.stdout)["processes"] == []


def test_a_family_keeps_those_whose_parent_has_exited() -> None:
    now = snapshot(
        process(10, "root"),
        process(11, "gone", parent=10, exited=True),
        process(12, "orphan", row(FaultKind.COPIED, 1), parent=11),
        process(13, "stranger"),
    )
    assert now.families([10]) == {10, 11, 12}


def test_families_are_those_named_their_descendants_and_who_was_let_pass() -> None:
    now = snapshot(
        process(10, "named"),
        process(11, "child", parent=10),
        process(12, "grandchild", row(FaultKind.COPIED, 1), parent=11, exited=True),
        process(13, "born before", row(FaultKind.COPIED, 1)),
        process(14, "its child", parent=13),
        process(15, "stranger", parent=99),
        process(16, "stranger's parent"),
    )
    assert [p.pid for p in families(now, (10,)).processes] == [10, 11, 12, 13, 14]
    assert families(now, ()) is now


@pytest.mark.parametrize(("lines", "drawn"), [(24, True), (10, False)])
def test_on_a_terminal_the_command_writes_above_the_table(lines: int, drawn: bool) -> None:
    main_end, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (lines, 80))
    running = subprocess.Popen(
        [sys.executable, FAKED, "run", "--interval", "0.1", "--", "sh", "-c", "sleep 0.4; echo hi"],
        env={**os.environ, "TERM": "xterm"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = read_all(main_end)
    assert running.wait(timeout=30) == 0
    meanwhile, _, after = shown.partition("hi\r\n")
    assert ("\x1b[1;12r" in meanwhile) is drawn  # scroll only the lines above
    assert ("\x1b[r" in after) is drawn  # and all of them again
    assert ("COMM" in meanwhile) is drawn
    assert "COMM" in after
    assert "\x1b[?25l" not in shown  # the cursor is never hidden
