"""Archives of a download, extracted where they lie: nothing outside their folder, nothing half-written, resumable."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from diffsal.errors import InputError
from diffsal.files import whole_file
from diffsal.folders import is_clutter, list_files, list_folders

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
FOREIGN_SUFFIXES = (".rar", ".7z")  # no Python library that we would depend on opens them
OPENERS: dict[str, Any] = {"gz": gzip.open, "tgz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
MOST_EXPANSION, SMALL_BYTES = 500, 1 << 30  # what grows more than this, and above that, is a bomb
MOST_ENTRIES = 5_000_000
DAMAGE = (  # what the libraries raise at broken archives
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, LookupError,
    ArithmeticError, NotImplementedError, RuntimeError, TypeError, AttributeError)
MOST_HEADER_BYTES = 1 << 20  # of a name or of an entry's other attributes


@dataclass(frozen=True)
class Entry:
    """A regular file in an archive: where it belongs, its stated size in bytes, and a function that opens it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def find_archives(root: Path) -> tuple[list[Path], list[Path]]:
    """Archives in ``root`` and in its folders: those that :func:`extract` takes, and those of other kinds."""
    folders = [root, *list_folders(root)]
    ours, foreign = ([path for folder in folders for path in list_files(folder, suffixes)]
                     for suffixes in ((".zip", *TAR_SUFFIXES), FOREIGN_SUFFIXES))
    return sorted(ours), sorted(foreign)


def extract(
    archive: Path, go_on: Callable[[], None] = lambda: None, note: Callable[[str], None] = lambda line: None
) -> int:
    """Extract ``archive`` into its own folder, and return how many files were new; those of the right size stay.

    One of another size (cut short, or edited since) goes to ``NAME.old``, and ``note`` is told. ``go_on`` is called
    before each file, and may raise to stop.

    Raises :class:`InputError` for an archive that is damaged, encrypted, too large for the disk or grows like a bomb,
    and for an entry that would leave the folder, is there twice, or is a link or a device. All entries are looked at
    first.
    """
    new = 0
    try:
        with _entries(archive) as entries:
            _check(archive, entries(), go_on)
        with _entries(archive) as entries:
            for entry in entries():
                go_on()
                target = archive.parent / _safe(entry.name, archive)
                ignored = any(is_clutter(part) for part in PurePosixPath(entry.name).parts)
                if ignored or (target.is_file() and target.stat().st_size == entry.size):
                    continue
                with whole_file(target, flush=False) as place, entry.open() as source, place.open("wb") as file:
                    _copy(source, file, entry.size)
                    if target.is_file() and target.stat().st_size != entry.size:
                        kept = move_aside(target, target.with_name(f"{target.name}.old"))
                        note(f"{target}: extracted anew; the one that was there, of another size, is now {kept.name}")
                new += 1
    except InputError:
        raise
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # of gzip and bz2, or a place before the file: the data, not the disk
            raise InputError(f"{archive}: damaged or cut short ({error}); fetch it again") from None
        raise
    except DAMAGE as error:
        raise InputError(f"{archive}: damaged or cut short ({error}); fetch it again") from None
    return new


def _check(archive: Path, entries: Iterator[Entry], go_on: Callable[[], None]) -> None:
    """Every entry before the first is written: its place, its kind, and the room that all of them need."""
    free, packed, needed, stated = shutil.disk_usage(archive.parent).free, archive.stat().st_size, 0, 0
    seen = {hash(PurePosixPath(archive.name))}  # numbers, not names: there may be millions
    for count, entry in enumerate(entries, 1):
        go_on()
        name = _safe(entry.name, archive)
        if hash(name) in seen:
            raise InputError(f"{archive}: its entry {entry.name!r} is there twice, or is called as the archive; "
                             "extract it by hand")
        seen.add(hash(name))
        target = archive.parent / name
        stated += entry.size
        needed += 0 if target.exists() else entry.size
        if needed > free:
            raise InputError(f"{archive}: needs {needed / 1e9:.3f} GB, {free / 1e9:.3f} GB are free there; make room")
        if stated > max(SMALL_BYTES, MOST_EXPANSION * packed) or count > MOST_ENTRIES:
            raise InputError(f"{archive}: its {packed:,} bytes would become more than {stated:,} in {count:,} files; "
                             "extract it by hand if you trust it")


def move_aside(path: Path, place: Path) -> Path:
    """``path`` moves to ``place``, or to a name beside it that is free."""
    place.parent.mkdir(parents=True, exist_ok=True)
    number, free = 1, place
    while free.exists():
        number += 1
        free = place.with_name(f"{place.name}{number}")
    return path.rename(free)


def _copy(source: IO[bytes], file: IO[bytes], size: int) -> None:
    """``size`` bytes; more or fewer than stated is damage."""
    left = size
    while left:
        data = source.read(min(left, 1 << 20))
        if not data:
            raise EOFError("an entry is shorter than stated")
        file.write(data)
        left -= len(data)
    if source.read(1):
        raise EOFError("an entry is longer than stated")


@contextmanager
def _entries(archive: Path) -> Iterator[Callable[[], Iterator[Entry]]]:
    if archive.suffix.lower() == ".zip":
        with zipfile.ZipFile(archive) as file:
            yield partial(_zip_entries, archive, file)
        return
    opener = next((OPENERS[end] for end in OPENERS if archive.name.lower().endswith(end)), None)
    with (opener(archive) if opener else archive.open("rb")) as raw, \
            tarfile.open(fileobj=_Bounded(raw), mode="r:") as tar:
        yield partial(_tar_entries, archive, tar)


def _zip_entries(archive: Path, file: zipfile.ZipFile) -> Iterator[Entry]:
    for e in file.infolist():
        if e.is_dir():
            continue
        if stat.S_ISLNK(e.external_attr >> 16):
            raise InputError(f"{archive}: its entry {e.filename!r} is a link; such archives are not extracted")
        if e.flag_bits & 1:
            raise InputError(f"{archive}: is encrypted; extract it by hand with its password")
        yield Entry(e.filename, e.file_size, partial(file.open, e))


def _tar_entries(archive: Path, file: tarfile.TarFile) -> Iterator[Entry]:
    while (e := file.next()) is not None:
        file.members = []  # type: ignore[attr-defined]  # it would keep a million of them
        if e.isdir():
            continue
        if not e.isfile() or e.issparse():
            raise InputError(f"{archive}: its entry {e.name!r} is no file; such archives are not extracted")
        yield Entry(e.name, e.size, partial(file.extractfile, e))  # type: ignore[arg-type]
    file.fileobj.seek(file.offset)
    if file.fileobj.read(tarfile.BLOCKSIZE).count(0) != tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")  # tarfile itself stops in silence at a damaged header


class _Bounded(io.RawIOBase):
    """A file of which no single read takes much: a tar's header may claim to be as long as it likes."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_HEADER_BYTES + tarfile.BLOCKSIZE:
            raise tarfile.ReadError("a header is too long")
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


def _safe(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise InputError(f"{archive}: its entry {name!r} would be written outside the folder; the archive is not to be "
                         "trusted")
    return path
