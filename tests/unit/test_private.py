"""`cowtrace private`: accounts of processes of the test's making, its table, JSON and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from schema_checks import check
from snapshots import process, row, snapshot
from test_frame_entries import ANON, FILE, ZERO, line, made

from cowtrace import cli, proc
from cowtrace.analysis import private
from cowtrace.analysis.private import Accounts
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.frames import changes
from cowtrace.frames.words import PAGE_BYTES
from cowtrace.machine.csv import CsvLines
from cowtrace.machine.memory_objects import accounts as as_object
from cowtrace.model import Account, Cause, FaultKind, Snapshot
from cowtrace.model.private_memory import COPIED
from cowtrace.terminal import plain
from cowtrace.terminal.private import view

EXCLUSIVE = 1 << 56
PAGES = 1031
IMAGE, OTHER_IMAGE = (4096, 9000, 9500), (8192, 7000, 7500)
LATER = 1 << 40  # ticks since boot: after the test began


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "zero_frame", lambda: ZERO)
    monkeypatch.setattr(proc, "name", lambda pid: f"worker {pid}")
    monkeypatch.setattr(changes, "is_merged_known", lambda: False)


def put(
    proc: Path,
    pid: int,
    words: dict[int, int],
    *,
    parent: int = 1,
    start: int = 509,
    image: tuple[int, int, int] = IMAGE,
    smaps: int | None = None,
) -> None:
    """`smaps`: private pages as smaps has them; by default as many as there are."""
    shutil.rmtree(proc / str(pid), ignore_errors=True)
    made(proc, pid, line(0, PAGES), words)
    alone = sum(bool(word & EXCLUSIVE) for word in words.values()) if smaps is None else smaps
    kib = PAGE_BYTES // 1024
    sizes = {"Private_Clean": 0, "Private_Dirty": alone * kib, "Anonymous": len(words) * kib}
    text = "".join(f"{name}: {size:8} kB\n" for name, size in sizes.items())
    (proc / str(pid) / "smaps_rollup").write_text(f"0-1 ---p 0 00:00 0 [rollup]\n{text}")
    code, stack, arguments = image
    fields = ["S", parent, *[0] * 17, start, 0, 0, 0, code, 0, stack, *[0] * 19, arguments]
    (proc / str(pid) / "stat").write_text(f"{pid} (a) b) {' '.join(map(str, fields))} 0 0\n")


def alone(first: int, pages: int) -> dict[int, int]:
    """Private pages, at addresses that are their frames."""
    return {page: ANON | EXCLUSIVE | page for page in range(first, first + pages)}


def shared(first: int, pages: int) -> dict[int, int]:
    return {page: ANON | page for page in range(first, first + pages)}


def causes(account: Account) -> dict[Cause, int]:
    return {cause: size // PAGE_BYTES for cause, size in account.by_cause.items() if size}


def test_a_process_begins_with_what_it_has(tmp_path: Path) -> None:
    put(tmp_path, 7, alone(0, 11) | shared(20, 5))
    accounts = Accounts(tmp_path)
    accounts.read(lambda: [7])
    (account,) = accounts.accounts
    assert (account.began, account.now) == (11 * PAGE_BYTES, 11 * PAGE_BYTES)
    put(tmp_path, 7, alone(0, 9) | alone(20, 5) | {30: ANON | EXCLUSIVE | 999})
    accounts.read(lambda: [7])
    (account,) = accounts.accounts
    assert account.change == account.explained == 4 * PAGE_BYTES
    assert causes(account) == {Cause.GIVEN_BACK: 2, Cause.LEFT_ALONE: 5, Cause.TOUCHED: 1}


def test_what_happens_between_readings_adds_up(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    for words in (alone(0, 3), alone(0, 7), alone(0, 2), alone(0, 5)):
        put(tmp_path, 7, words)
        accounts.read(lambda: [7])
    (account,) = accounts.accounts
    assert causes(account) == {Cause.TOUCHED: 4 + 3, Cause.GIVEN_BACK: 5}
    assert account.unexplained == 0


def test_a_child_begins_with_its_parents_pages(tmp_path: Path) -> None:
    put(tmp_path, 7, alone(0, 11))
    accounts = Accounts(tmp_path)
    accounts.read(lambda: [7])
    put(tmp_path, 7, alone(0, 4) | shared(4, 7))
    copies = {page: ANON | EXCLUSIVE | 2000 + page for page in range(4)}
    put(tmp_path, 8, copies | shared(4, 7), parent=7, start=LATER)
    accounts.read(lambda: [7, 8])
    parent, child = accounts.accounts
    assert causes(parent) == {Cause.SHARED_BY_FORK: 7}
    assert causes(child) == {Cause.REPLACED: 4}
    assert (child.began, child.now, child.unexplained) == (0, 4 * PAGE_BYTES, 0)


def test_a_child_begins_with_the_pages_that_its_parent_copied_since(tmp_path: Path) -> None:
    put(tmp_path, 7, alone(0, 11))
    accounts = Accounts(tmp_path)
    accounts.read(lambda: [7])
    copies = {page: ANON | EXCLUSIVE | 2000 + page for page in range(11)}
    put(tmp_path, 7, copies)
    put(tmp_path, 8, alone(0, 11), parent=7, start=LATER)
    accounts.read(lambda: [7, 8])
    parent, child = accounts.accounts
    assert causes(child) == {Cause.LEFT_ALONE: 11}
    assert causes(parent) == {}


def test_a_child_of_one_that_has_ended_since(tmp_path: Path) -> None:
    put(tmp_path, 7, alone(0, 11))
    accounts = Accounts(tmp_path)
    accounts.read(lambda: [7])
    put(tmp_path, 1, {}, image=OTHER_IMAGE)
    shutil.rmtree(tmp_path / "7")
    put(tmp_path, 8, alone(0, 11), parent=1, start=LATER)
    accounts.read(lambda: [8])
    parent, child = accounts.accounts
    assert parent.ended
    assert causes(child) == {Cause.LEFT_ALONE: 11}


def test_another_program_begins_with_nothing(tmp_path: Path) -> None:
    put(tmp_path, 7, alone(0, 11))
    accounts = Accounts(tmp_path)
    accounts.read(lambda: [7])
    put(tmp_path, 7, alone(0, 2), image=OTHER_IMAGE)
    put(tmp_path, 8, alone(0, 5), parent=7, start=LATER, image=(1, 2, 3))
    accounts.read(lambda: [7, 8])
    executed, started = accounts.accounts
    assert causes(executed) == {Cause.UNMAPPED: 11, Cause.TOUCHED: 2}
    assert causes(started) == {Cause.TOUCHED: 5}
    assert (executed.unexplained, started.unexplained) == (0, 0)


def test_one_whose_beginning_is_unknown_begins_now(tmp_path: Path) -> None:
    """A process that was forked by one that is not read."""
    accounts = Accounts(tmp_path)
    accounts.read(lambda: [])
    put(tmp_path, 6, {})
    put(tmp_path, 7, alone(0, 11), parent=6, start=LATER)
    accounts.read(lambda: [7])
    (account,) = accounts.accounts
    assert (account.began, account.change, causes(account)) == (11 * PAGE_BYTES, 0, {})


def test_pages_of_files_count_once_no_other_maps_them(tmp_path: Path) -> None:
    put(tmp_path, 7, {0: FILE | 5, 1: FILE | 6})
    accounts = Accounts(tmp_path)
    accounts.read(lambda: [7])
    put(tmp_path, 7, {0: FILE | EXCLUSIVE | 5, 1: FILE | 6})
    accounts.read(lambda: [7])
    (account,) = accounts.accounts
    assert account.files == account.change == PAGE_BYTES


def test_what_no_cause_explains_is_said(tmp_path: Path) -> None:
    put(tmp_path, 7, alone(0, 2))
    accounts = Accounts(tmp_path)
    accounts.read(lambda: [7])
    put(tmp_path, 7, alone(0, 5), smaps=23)
    accounts.read(lambda: [7])
    (account,) = accounts.accounts
    assert account.unexplained == (23 - 5) * PAGE_BYTES


def test_a_pid_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    put(tmp_path, 7, alone(0, 2))
    accounts = Accounts(tmp_path)
    accounts.read(lambda: [7])
    put(tmp_path, 1, {}, image=OTHER_IMAGE)
    put(tmp_path, 7, alone(0, 5), start=LATER, image=(1, 2, 3))
    accounts.read(lambda: [7])
    assert [account.ended for account in accounts.accounts] == [True, False]


def test_one_that_is_not_chosen_for_a_time_goes_on_where_it_was(tmp_path: Path) -> None:
    put(tmp_path, 7, alone(0, 11))
    accounts = Accounts(tmp_path)
    for chosen in ([7], [], [7]):
        accounts.read(chosen.copy)
    (account,) = accounts.accounts
    assert (account.ended, causes(account), account.unexplained) == (False, {}, 0)


def test_a_reading_ends_while_processes_fork(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    asked: list[int] = []

    def more() -> list[int]:
        asked.append(100 + len(asked))
        put(tmp_path, asked[-1], alone(0, 3))
        return asked

    accounts.read(more)
    assert len(asked) == len(accounts.accounts) == private._ROUNDS


def test_of_many_that_ended_the_largest_keep_an_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "_MOST_ENDED", 2)
    accounts = Accounts(tmp_path)
    accounts.read(list)
    put(tmp_path, 1, {}, image=OTHER_IMAGE)
    for pid in range(10, 15):
        put(tmp_path, pid, alone(0, pid), start=LATER, image=(pid, 2, 3))
        accounts.read([pid].copy)
        shutil.rmtree(tmp_path / str(pid))
    accounts.read(list)
    *kept, others = accounts.accounts
    assert [account.pid for account in kept] == [13, 14]
    assert (others.pid, others.comm, causes(others)) == (0, "[ended]", {Cause.TOUCHED: 33})
    assert (others.now, others.left) == (33 * PAGE_BYTES, 0)


def test_hidden_frames_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "zero_frame", lambda: None)
    with pytest.raises(CowtraceError, match="hidden") as raised:
        Accounts()
    assert raised.value.exit_code == EXIT_NO_PLAN


def test_another_users_process_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, proc: Path) -> None:
        raise PermissionError(13, "refused")

    put(tmp_path, 7, alone(0, 11))
    monkeypatch.setattr(private, "rollup", refuse)
    with pytest.raises(CowtraceError, match="process 7 are hidden"):
        Accounts(tmp_path).read(lambda: [7])


def traced(copied: int, from_file: int = 0) -> Snapshot:
    """Of process 7, in pages."""
    rows = (row(FaultKind.COPIED, copied), row(FaultKind.FILE_COPIED, from_file))
    return snapshot(process(7, "a", *rows))


def test_a_probe_tells_copies_from_pages_that_were_touched_again(tmp_path: Path) -> None:
    put(tmp_path, 7, shared(0, 11))
    accounts = Accounts(tmp_path)
    accounts.count(traced(3))
    accounts.read(lambda: [7])
    put(tmp_path, 7, {page: ANON | EXCLUSIVE | 2000 + page for page in range(11)})
    accounts.read(lambda: [7])
    for copied, expected in ((3 + 9, 9), (3 + 23, 11)):
        accounts.count(traced(copied, 5))
        (account,) = accounts.accounts
        assert account.copied == expected * PAGE_BYTES


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    found = Accounts(tmp_path)
    put(tmp_path, 7, alone(0, 23) | shared(500, 509))
    put(tmp_path, 8, alone(0, 23))
    found.count(traced(0))
    found.read(lambda: [7, 8])
    copies = {page: ANON | EXCLUSIVE | 3000 + page for page in range(500, 900)}
    put(tmp_path, 7, alone(0, 11) | copies | alone(900, 109))
    shutil.rmtree(tmp_path / "8")
    found.read(lambda: [7])
    found.count(traced(397, 2))
    return found


def lines(found: Accounts, now: Snapshot | None, width: int = 80) -> list[str]:
    made_view = view(found, now, 1.25)
    return plain.lines(made_view.draw(made_view.rows, width), width)


def test_the_table(accounts: Accounts) -> None:
    accounts.seconds = 0.023
    assert lines(accounts, traced(397)) == [
        "                                  2 PRO-  worker… worker…†",
        "PRIVATE MEMORY                    CESSES        7        8",
        "at the start                      184KiB  92.0KiB  92.0KiB",
        "+ copied when written            1.55MiB  1.55MiB        0",
        "+ given back, touched again      8.00KiB  8.00KiB        0",
        "+ zero-filled after a read       4.00KiB  4.00KiB        0",
        "+ no longer shared by others      436KiB   436KiB        0",
        "- given back, still mapped       48.0KiB  48.0KiB        0",
        "± unexplained                          0        0        0",
        "- freed at its end               92.0KiB        0  92.0KiB",
        "now                              2.03MiB  2.03MiB        0",
        "copies that a probe saw          1.55MiB  1.55MiB        0",
        "  from files                     8.00KiB  8.00KiB        0",
        "plan kprobe, kernel 6.12.43+deb13-cloud-amd64, 1.0 s: 2 of 2 processes",
        "unclassified 0, lost 0",
        "read in 0.02 s; † ended: as last read",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_it_fits(accounts: Accounts, width: int) -> None:
    assert max(map(len, lines(accounts, None, width))) <= max(width, 49)


def test_without_a_probe_copies_are_not_known() -> None:
    untraced = Account(9, by_cause={Cause.REPLACED: PAGE_BYTES})
    assert untraced.copied is None
    assert untraced.rows[COPIED] == PAGE_BYTES


def test_json_and_csv(accounts: Accounts, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_object(accounts, traced(397), 1.25)
    assert check("private", [json.dumps(found)]) == 1
    assert found["processes"][0]["left_alone_bytes"] == 109 * PAGE_BYTES
    import sys

    CsvLines(sys.stdout).write(found["processes"])
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("pid,comm,ended,began_bytes,now_bytes,replaced_bytes")
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no process is chosen"),
        (("--comm", "redis*", "--", "true"), "cannot be combined with COMMAND"),
        (("--for", "3", "--", "true"), "cannot be combined with COMMAND"),
        (("--user", "root"), "--user names the user of COMMAND"),
    ],
)
def test_what_it_refuses_has_a_hint(arguments: tuple[str, ...], words: str) -> None:
    ended = CliRunner().invoke(cli.main, ["private", *arguments])
    assert ended.exit_code != 0
    assert words in ended.output
    assert "Hint: " in ended.output
