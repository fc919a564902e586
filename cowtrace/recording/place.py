"""Put a recording's files into a folder that can be another user's, who may race against it.

SQLite opens FILE, FILE-wal and FILE-shm by name, and would follow what was exchanged for a folder,
or write to what was planted. So it opens them where nobody else can: in a new folder that only
this user may enter. It keeps them open; only then they get their names. Later no name is used.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.files import located
from cowtrace.text import printable

_WITH = ("-wal", "-shm")  # what SQLite keeps open beside a database in WAL mode
_NAME = "recording"  # as long as it is private
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)  # a file system without hard links
_ROLLBACK = b"\1\1"  # at byte 18 of a database: no WAL belongs to it


class RecordingPlace:
    """The place of one recording, locked while it is being written; `close` it last.

    The lock is flock(2)'s, independent of SQLite's.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        """`force`: replace a file that is there. Raises CowtraceError: it is there, or locked."""
        self._shown = printable(str(path))
        self._stack = ExitStack()
        with self._failing():
            self._at = self._stack.enter_context(located(path, follow=False))
            self._make_room(force)

    @contextmanager
    def private(self) -> Iterator[Path]:
        """The path at which SQLite opens a new, empty file; when the block ends, it gets its name.

        For the block, the folder with it is the root folder of this process, or, without
        CAP_SYS_CHROOT, nobody else may be able to exchange what leads to it.
        """
        with self._failing(), ExitStack() as stack:
            name = f".{self._at.name[:50]}.{secrets.token_hex(8)}"
            os.mkdir(name, 0o700, dir_fd=self._at.folder)
            stack.callback(self._remove_folder, name)
            folder = self._at.open(_FOLDER, name)
            stack.callback(os.close, folder)
            status = os.fstat(folder)
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != 0o700:
                raise FileExistsError  # it was exchanged
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            self._file = os.open(_NAME, flags, 0o600, dir_fd=folder)
            self._stack.callback(os.close, self._file)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stack.callback(_remove, folder)
            with _root(folder) as is_root:
                if not is_root and self._at.others:
                    raise CowtraceError(
                        f"cannot write {self._shown}: another user can exchange files in "
                        f"{printable(str(self._at.others))}",
                        hint="name a file in a folder of your own: -o FILE",
                    )
                yield Path("/" if is_root else self._at.path.parent / name, _NAME)
            with ExitStack() as placed:
                for end in (*_WITH, ""):  # the file last: what reads it finds its WAL
                    name = f"{self._at.name}{end}"
                    _move(folder, f"{_NAME}{end}", self._at.folder, name)
                    placed.callback(os.unlink, name, dir_fd=self._at.folder)
                placed.pop_all()

    def close(self, *, complete: bool) -> None:
        """`complete`: its WAL is empty, and SQLite has closed it."""
        with self._stack:
            if complete:
                os.pwrite(self._file, _ROLLBACK, 18)
                for end in _WITH:
                    with suppress(OSError):
                        os.unlink(f"{self._at.name}{end}", dir_fd=self._at.folder)

    def _make_room(self, force: bool) -> None:
        beside = [f"{self._at.name}{end}" for end in (*_WITH, "-journal")]
        file = self._at.file
        if force and file is not None and stat.S_ISREG(os.fstat(file).st_mode):
            if self._is_locked():
                raise CowtraceError(
                    f"{self._shown} is being recorded to",
                    hint="name another file, or end that recorder",
                )
            os.unlink(self._at.name, dir_fd=self._at.folder)
        elif file is not None:
            raise FileExistsError
        for name in beside:
            with suppress(FileNotFoundError):
                if force:
                    os.unlink(name, dir_fd=self._at.folder)
                else:  # another user could have planted it, and would read what is written to it
                    os.stat(name, dir_fd=self._at.folder, follow_symlinks=False)
                    self._shown = printable(str(self._at.path.with_name(name)))
                    raise FileExistsError

    def _is_locked(self) -> bool:
        """True if a recorder is writing to the file."""
        fd = self._at.open(os.O_RDONLY | os.O_NONBLOCK)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _remove_folder(self, name: str) -> None:
        with suppress(OSError):
            os.rmdir(name, dir_fd=self._at.folder)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """After a failure, close all; say what cannot be written."""
        try:
            yield
        except BaseException as error:
            self._stack.close()
            if isinstance(error, FileExistsError):
                raise CowtraceError(
                    f"{self._shown} is there already",
                    hint="name another file, or take --force to replace it",
                ) from None
            if isinstance(error, OSError):
                raise CowtraceError(
                    f"cannot write {self._shown}: {error.strerror}",
                    hint="name a file in a folder that you may write to: -o FILE",
                ) from None
            raise


@contextmanager
def _root(folder: int) -> Iterator[bool]:
    """Make it this process's root folder for a while; yield False where that is not permitted.

    Nothing outside it can be named then. No other thread of this process may use paths meanwhile.
    """
    here, root = os.open(".", _FOLDER), os.open("/", _FOLDER)
    try:
        os.fchdir(folder)
        try:
            os.chroot(".")
        except OSError:
            os.fchdir(here)
            yield False
            return
        try:
            yield True
        finally:
            os.fchdir(root)
            os.chroot(".")
            os.fchdir(here)
    finally:
        os.close(here)
        os.close(root)


def _move(source: int, name: str, target: int, new_name: str) -> None:
    """Rename a file to another folder; raises FileExistsError if something is there."""
    try:
        os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)


def _remove(folder: int) -> None:
    """Remove what is in a private folder, and close nothing."""
    for end in ("", *_WITH, "-journal"):
        with suppress(OSError):
            os.unlink(f"{_NAME}{end}", dir_fd=folder)
