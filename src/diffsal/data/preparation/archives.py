"""Archives of a download, extracted where they lie: nothing outside their folder, nothing half-written, resumable."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from diffsal.errors import InputError
from diffsal.files import whole_file

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
FOREIGN_SUFFIXES = (".rar", ".7z")  # no Python library that we would depend on opens them
IGNORED = ("__MACOSX", ".DS_Store")


def find_archives(root: Path) -> tuple[list[Path], list[Path]]:
    """Archives in ``root`` and in its folders: those that :func:`extract` takes, and those of other kinds."""
    files = sorted(p for pattern in ("*", "*/*") for p in root.glob(pattern) if p.is_file() and p.name[0] != ".")
    ours = [p for p in files if p.name.lower().endswith((".zip", *TAR_SUFFIXES))]
    return ours, [p for p in files if p.suffix.lower() in FOREIGN_SUFFIXES]


def extract(archive: Path, go_on: Callable[[], None] = lambda: None) -> int:
    """Extract ``archive`` into its own folder, and return how many files were new; those of the right size stay.

    ``go_on`` is called before each file, and may raise to stop.

    Raises :class:`InputError` for an archive that is damaged, encrypted or too large for the disk, and for an entry
    that would leave the folder or is a link or a device.
    """
    new = 0
    try:
        for name, size, open_entry in _entries(archive):
            go_on()
            target = archive.parent / _safe(name, archive)
            if any(part in IGNORED for part in target.parts) or (target.is_file() and target.stat().st_size == size):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target, flush=False) as place, open_entry() as source, place.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            new += 1
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise InputError(f"{archive}: damaged or cut short ({error}); fetch it again") from None
    return new


def _entries(archive: Path) -> Iterator[tuple[str, int, object]]:
    """Name, size and a function that opens it, of every regular file."""
    if archive.suffix.lower() == ".zip":
        with zipfile.ZipFile(archive) as file:
            entries = [e for e in file.infolist() if not e.is_dir()]
            _check_room(archive, entries)
            for e in entries:  # all are looked at before the first is written
                _safe(e.filename, archive)
                if stat.S_ISLNK(e.external_attr >> 16):
                    raise InputError(f"{archive}: its entry {e.filename!r} is a link; such archives are not extracted")
                if e.flag_bits & 1:
                    raise InputError(f"{archive}: is encrypted; extract it by hand with its password")
            yield from ((e.filename, e.file_size, _opener(file, e)) for e in entries)
        return
    with tarfile.open(archive) as file:
        for e in file:
            if e.isdir():
                continue
            if not e.isfile():
                raise InputError(f"{archive}: its entry {e.name!r} is no file; such archives are not extracted")
            yield e.name, e.size, _opener(file, e)


def _opener(file: zipfile.ZipFile | tarfile.TarFile, entry: zipfile.ZipInfo | tarfile.TarInfo):
    def opened() -> IO[bytes]:
        return file.open(entry) if isinstance(file, zipfile.ZipFile) else file.extractfile(entry)

    return opened


def _safe(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise InputError(f"{archive}: its entry {name!r} would be written outside the folder; the archive is not to be "
                         "trusted")
    return path


def _check_room(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    needed = sum(e.file_size for e in entries if not (archive.parent / e.filename).exists())
    free = shutil.disk_usage(archive.parent).free
    if needed > free:
        raise InputError(f"{archive}: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free there; make room")
