"""The one atomic writer: files and folders that appear whole or not at all.

What is written grows in a private folder beside its place, ``.NAME.TOKEN.partial``: its name is random and it is made
exclusively, so a link that somebody planted is never followed and two processes never share one. Whole, it is flushed
to the disk and renamed. Where a process was killed, the next one that writes to the same place removes what is left.
"""

from __future__ import annotations

import atexit
import contextlib
import csv
import errno
import io
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from diffsal.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: what a killed process leaves stays
    fcntl = None  # type: ignore[assignment]

STEM_CHARACTERS = 30  # of the final name, which stand in the private folder's
PRIVATE_NAME = re.compile(r"\.(.*)\.[0-9a-f]{16}\.partial", re.DOTALL)
RETRIES = 100  # where other processes write or sweep at the same place meanwhile
TAKEN = (errno.ENOTEMPTY, errno.EEXIST)  # what a rename onto a folder that holds something says
SWEEPING_SECONDS = 0.02
FULL = tuple(getattr(errno, name, errno.ENOSPC) for name in ("ENOSPC", "EDQUOT"))
HINTS = {  # what to do, by the system's number of an error
    **dict.fromkeys(FULL, "make room there, or write elsewhere"), errno.EROFS: "write elsewhere",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "check its permissions"), errno.ENAMETOOLONG: "give a shorter name"}
UNKNOWN_BYTES = "backslashreplace"  # of names that are not UTF-8: ``\udcXX``, which is what JSON has for them

_growing: dict[Path, int] = {}  # private folders and the processes that made them
_swept: set[Path] = set()  # folders in which this process has looked for what killed ones left


class GrowingFile:
    """A file or folder on its way: write it at ``place``, then :meth:`commit` it, and :meth:`discard` in any case.

    ``place`` has the final name and is not there yet. Parents of ``path`` are made. Raises ``OSError`` where ``path``
    cannot be written to, and :class:`InputError` where it is a device or a pipe.
    """

    def __init__(self, path: Path) -> None:
        path = Path(path)
        self.path = path.resolve() if path.is_symlink() and path.is_dir() else path
        if _is_special(self.path):
            raise InputError(f"{path}: is a device or a pipe, which this would replace; give the name of a file")
        parent = self.path.parent
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        self.lock: int | None = None
        for _ in range(RETRIES):
            self.folder: Path = parent / f".{self.path.stem[:STEM_CHARACTERS]}.{os.urandom(8).hex()}.partial"
            self.place: Path = self.folder / self.path.name
            try:
                _growing[self.folder.absolute()] = os.getpid()  # before it is there: an interrupt may come in between
                with naming(self.path):
                    self.folder.mkdir(mode=0o700)
                self.lock = _locked(self.folder)
            except BaseException:
                self.discard()
                raise
            if self.lock is None and fcntl is not None:
                time.sleep(SWEEPING_SECONDS)  # another process sweeps it away, or there are no locks here
            if self.folder.exists():
                return
            self.discard()

    def commit(self, flush: bool = True) -> None:
        """Give what was written its final name; ``flush`` it to the disk first, so that a power cut spares it."""
        with naming(self.path):
            if self.place.is_dir():
                self._commit_folder()
                return
            if flush:
                with self.place.open("rb") as file:
                    os.fsync(file.fileno())
            os.replace(self.place, self.path)

    def _commit_folder(self) -> None:
        for _ in range(RETRIES):
            try:
                os.rename(self.place, self.path)  # onto nothing or an empty folder
                return
            except OSError as error:
                if error.errno not in TAKEN and not self.path.is_dir():
                    raise
            old = self.folder / os.urandom(8).hex()
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                os.rename(self.path, old)
            try:
                os.rename(self.place, self.path)
                return
            except OSError as error:
                if error.errno in TAKEN:  # another process was quicker again
                    continue
                if not self.path.exists() and old.exists():
                    os.rename(old, self.path)
                raise
        raise FileExistsError(errno.EEXIST, "another process writes this folder all the time", str(self.path))

    def discard(self) -> None:
        """Remove what is left; after :meth:`commit` that is nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None
        _growing.pop(self.folder.absolute(), None)


class TextWriter:
    """A text in UTF-8 that grows at ``file`` and appears when it is closed; ``newline`` as :func:`open` takes it."""

    def __init__(self, path: Path, newline: str | None = None) -> None:
        self.growing = GrowingFile(path)
        self.file = self.growing.place.open("w", encoding="utf-8", errors=UNKNOWN_BYTES, newline=newline)

    def close(self) -> None:
        with naming(self.growing.path):
            self.file.close()
        self.growing.commit()

    def discard(self) -> None:
        self.file.close()
        self.growing.discard()


@contextmanager
def whole_file(path: Path, flush: bool = True) -> Iterator[Path]:
    """Where to write a file of that name, by whatever library; it becomes ``path`` if the block ends without an error.

    An ``OSError`` of the block names ``path``, not the private place.
    """
    growing = GrowingFile(path)
    try:
        with naming(growing.path):
            yield growing.place
        growing.commit(flush)
    finally:
        growing.discard()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of ``folder`` (and of what was in it) if the block ends without an error.
    """
    growing = GrowingFile(folder)
    try:
        growing.place.mkdir()
        with naming(growing.path):
            yield growing.place
        growing.commit()
    finally:
        growing.discard()


def write_whole(path: Path, data: bytes, flush: bool = True) -> None:
    """``data`` as a file; its folders are made."""
    with whole_file(path, flush) as place:
        place.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """``text`` as a file in UTF-8; its folders are made."""
    write_whole(path, text.encode("utf-8", UNKNOWN_BYTES))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Comma-separated values with a header, RFC 4180, as a file in UTF-8; its folders are made."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def final_name(name: str) -> str:
    """The final name of what grows at ``name``; any other name as it is."""
    return os.sep.join(part for part in name.split(os.sep) if not PRIVATE_NAME.fullmatch(part))


def remove_unfinished() -> None:
    """Remove what this process has not finished; it happens at its end, unless that is ``os._exit``."""
    for folder, process in list(_growing.items()):
        if process == os.getpid():  # a forked process knows its parent's, too
            shutil.rmtree(folder, ignore_errors=True)


atexit.register(remove_unfinished)


def check_plain(path: Path) -> None:
    """:class:`InputError` for a pipe, a socket or a device as an input: reading it may wait without end."""
    if _is_special(path):
        raise InputError(f"{path}: is a pipe, a socket or a device; write what it gives into a file first")


def _is_special(path: Path) -> bool:
    """Whether something is there that is neither a file nor a folder: asked once, others may replace it meanwhile."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An ``OSError`` of the block names what was written by its final name; one that names nothing, ``path``."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        if isinstance(error.filename, (str, os.PathLike)):
            error.filename = final_name(os.fspath(error.filename))
            error.filename2 = None
        raise


def line_of(error: InputError | OSError) -> str:
    """One file's error in one line, for the others to go on; raised again where the disk takes no more from any."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno in (*FULL, errno.EROFS):
        raise error
    return words_of(error)


def words_of(error: OSError) -> str:
    """The file, what the system says, and what to do, in one line."""
    where = f"{final_name(str(error.filename))}: " if error.filename else ""
    hint = HINTS.get(error.errno or 0)
    return f"{where}{error.strerror or error}{f'; {hint}' if hint else ''}"


def _locked(folder: Path) -> int | None:
    """A lock on ``folder`` that ends with this process; None where there are none, or another process holds it."""
    if fcntl is None:
        return None
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None


def _sweep(parent: Path) -> None:
    """Remove private folders that killed processes left in ``parent``: nobody holds their locks."""
    parent = parent.absolute()
    if parent in _swept or fcntl is None:
        return
    _swept.add(parent)
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if not PRIVATE_NAME.fullmatch(entry.name) or not entry.is_dir(follow_symlinks=False):
                continue
            if entry.stat(follow_symlinks=False).st_uid != os.geteuid():
                continue
            lock = _locked(parent / entry.name)
            if lock is not None:
                shutil.rmtree(parent / entry.name, ignore_errors=True)
                os.close(lock)
