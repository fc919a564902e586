"""The attacks that run beside the commands: how each is prepared and started."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attack import crafted_elf


@dataclass(frozen=True, slots=True)
class Place:
    """What an attack may know: its own folder, and what any user can find out."""

    folder: Path
    victim: int
    port: int
    canary: Path  # only root may read it


@dataclass(frozen=True, slots=True)
class Attack:
    name: str
    section: str  # of the issue; 5: one of the others
    start: Callable[[Place], list[str]]  # prepares it; returns the command


def _program(name: str, section: str, *command: str) -> Attack:
    return Attack(name, section, lambda place: [*command])


def _code(name: str, section: str, kind: str) -> Attack:
    """Code from an honest file, or none, which is then changed."""

    def start(place: Place) -> list[str]:
        (place.folder / "x.so").write_bytes(crafted_elf.plain())
        return ["code", kind, "x.so"]

    return Attack(name, section, start)


def _file(name: str) -> Attack:
    def start(place: Place) -> list[str]:
        crafted_elf.write(name, place.folder / "x.so")
        return ["code", "file", "x.so"]

    return Attack(f"ELF: {name}", "5", start)


def _link(name: str, *, to_pipe: bool) -> Attack:
    """The file's debug link leads to a pipe, or out of the folder, as root."""

    def start(place: Place) -> list[str]:
        target = "x.debug" if to_pipe else os.path.relpath(place.canary, place.folder)
        (place.folder / "x.so").write_bytes(crafted_elf.debug_link(target))
        if to_pipe:
            for folder in (place.folder, place.folder / ".debug"):
                folder.mkdir(exist_ok=True)
                os.mkfifo(folder / target)
        return ["code", "file", "x.so"]

    return Attack(name, "1", start)


def _deep_folder(place: Place) -> list[str]:
    """A path as long as the kernel can name it, of control characters."""
    here = os.open(place.folder, os.O_RDONLY)
    for _ in range(15):
        name = ("\x1b[31m\n\"';\x9b$(id)" * 40).encode()[:255].decode(errors="ignore")
        os.mkdir(name, dir_fd=here)
        deeper = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    with os.fdopen(os.open("x.so", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=here), "wb") as file:
        file.write(crafted_elf.plain())
    path = os.readlink(f"/proc/self/fd/{here}")  # noqa: PTH115 - not a path
    os.close(here)
    return ["code", "file", os.path.relpath(path, place.folder) + "/x.so"]


def _sparse_file(place: Place) -> list[str]:
    (place.folder / "x.so").write_bytes(crafted_elf.plain())
    os.truncate(place.folder / "x.so", 8 << 30)
    return ["code", "file", "x.so"]


def _many_files(place: Place) -> list[str]:
    (place.folder / "x.so").write_bytes(crafted_elf.plain())
    return ["memory", "many-files", "x.so"]


def _unique_in_file(place: Place) -> list[str]:
    crafted_elf.write("65,536 functions", place.folder / "x.so")
    return ["code", "unique-file", "x.so"]


def _for_victim(place: Place) -> list[str]:
    return ["code", "map-victim", str(place.victim)]


def _client(name: str, section: str, kind: str) -> Attack:
    return Attack(name, section, lambda place: ["clients.py", kind, str(place.port)])


ATTACKS: tuple[Attack, ...] = (
    _program("perf map: a pipe", "1", "code", "map-fifo"),
    _program("perf map: 10 GB, sparse", "1", "code", "map-sparse"),
    Attack("perf map for another's process", "1", _for_victim),
    _program("perf map: 64 MiB, growing", "1", "code", "map-grow"),
    _program("perf map: links to devices", "5", "code", "map-link"),
    _program("perf map: 4 million lines", "5", "code", "map-lines"),
    _program("perf map: one line of 60 MB", "5", "code", "map-wide"),
    _program("perf map: numbers of 32 MB", "5", "code", "map-numbers"),
    _program("perf map: pipe, folder, file in turn", "5", "code", "map-swap"),
    _link("debug link to a pipe", to_pipe=True),
    _link("debug link to root's file", to_pipe=False),
    _code("x.so (deleted) is a pipe", "1", "deleted-fifo"),
    _code("own library truncated", "1", "truncated"),
    _code("library replaced by pipe and link", "5", "replaced"),
    _program("code that no file describes", "1", "code", "jit"),
    *map(_file, crafted_elf.FILES),
    Attack("ELF: 8 GB, sparse", "5", _sparse_file),
    Attack("path of 4,000 control characters", "5", _deep_folder),
    Attack("3,000 libraries in one process", "5", _many_files),
    _program("unique stacks, generated code", "4", "code", "unique"),
    Attack("unique stacks, from a file", "4", _unique_in_file),
    _program("recursion of 50,000 calls", "5", "code", "deep"),
    _program("stack and frame pointers of any value", "5", "code", "registers"),
    _program("code at the ends of the address space", "5", "code", "far"),
    _program("65,000 mappings with long names", "5", "memory", "many-maps"),
    _program("mmap_lock held while maps are read", "5", "memory", "locked"),
    _program("mappings that move, memfds with names", "5", "memory", "moving"),
    _program("PROT_NONE memory, written remotely", "2", "memory", "prot-none"),
    _program("faults blocked by userfaultfd", "5", "memory", "blocked"),
    _program("huge pages, KSM, wipe on fork", "5", "memory", "huge"),
    _program("fork storm", "2", "processes", "storm"),
    _program("renaming fork storm", "4", "processes", "names"),
    _program("4,000 threads, renaming", "5", "processes", "threads"),
    _program("chain of 1,000 processes", "5", "processes", "chain"),
    _program("fork and execute, control characters", "5", "processes", "exec"),
    _program("a thread executes", "5", "processes", "thread-exec"),
    _program("leader gone, threads copy", "5", "processes", "leaderless"),
    _program("2,000 zombies", "5", "processes", "zombies"),
    _program("stopped and ptraced in the middle", "5", "processes", "stopped"),
    _program("vfork and CLONE_VM", "5", "processes", "shared"),
    _program("10,000 signals a second, killed", "5", "processes", "signals"),
    _program("own namespaces, chroot, PIDs again", "5", "processes", "namespaces"),
    _program("deleted folder, overwritten arguments", "5", "processes", "odd"),
    _client("slowloris: 200 connections", "4", "slowloris"),
    _client("answers that nobody reads", "5", "unread"),
    _client("scrapes without end", "5", "flood"),
    _client("no HTTP at all", "5", "garbage"),
)
