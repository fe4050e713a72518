"""What is to be done: the videos and pictures of a folder, of a manifest, or of any address that fsspec opens."""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffsal.errors import InputError
from diffsal.media.source import PICTURE_SUFFIXES, VIDEO_SUFFIXES

MANIFEST_SUFFIXES = (".txt", ".csv", ".tsv", ".parquet")
ADDRESS_COLUMNS = ("address", "url", "path", "video", "file")  # of a table: the first of these that it has
MOST_MANIFEST_BYTES = 2 << 30
ADDED_FOLDERS = ("@eaDir", "__MACOSX", ".ipynb_checkpoints")  # what file systems and tools add beside people's files


@dataclass(frozen=True)
class Span:
    """Frames ``start`` to ``stop`` (exclusive; None: to the end) of a long video."""

    start: int
    stop: int | None


@dataclass(frozen=True)
class Item:
    """One video or picture. ``name``: where its results lie below the output, without an ending.

    ``version`` changes when the file changes (its size and, where known, its time or tag); empty where that is unknown.
    ``part``: of a long video a span that is to be drawn, or all its spans, which are drawn and are to be joined.
    """

    name: str
    address: str
    num_bytes: int = 0
    version: str = ""
    part: Span | tuple[Span, ...] | None = None


def is_address(text: str) -> bool:
    """Whether ``text`` has a protocol (``s3://``, ``hf://`` …) and is no path of this machine."""
    return "://" in text


def file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it. Raises :class:`InputError` with what to install."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise InputError(f"{address}: cannot be opened: {error}") from None


def list_items(source: str) -> Iterator[Item]:
    """The items of a folder (all below it), of a manifest (``.txt``, ``.csv``, ``.tsv``, ``.parquet``) or of one file.

    A manifest holds one address per line, or a column ``address``, ``url``, ``path``, ``video`` or ``file``; relative
    ones start at the manifest's folder. Raises :class:`InputError` where nothing is there.
    """
    fs, path = file_system(source)
    try:
        if fs.isdir(path):
            yield from _of_folder(fs, path, source)
        elif not fs.exists(path):
            raise InputError(f"{source}: no such file or folder")
        elif Path(path).suffix.lower() in MANIFEST_SUFFIXES:
            yield from _of_manifest(fs, path, source)
        else:
            yield _item(Path(path).stem, source, fs.info(path))
    except OSError as error:
        raise InputError(f"{source}: cannot be listed: {error}") from None


def _of_folder(fs: Any, root: str, source: str) -> Iterator[Item]:
    found = False
    for folder, folders, files in fs.walk(root, detail=True, on_error="raise"):
        for name in sorted(folders):
            if name in ADDED_FOLDERS or name.startswith("."):
                del folders[name]
        for name in sorted(files):
            if name.startswith(".") or Path(name).suffix.lower() not in (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES):
                continue
            found, path = True, posixpath.join(folder, name)
            relative = posixpath.relpath(path, root)
            yield _item(str(Path(relative).with_suffix("")), _address(fs, path, source), files[name])
    if not found:
        raise InputError(f"{source}: holds no video and no picture")


def _of_manifest(fs: Any, path: str, source: str) -> Iterator[Item]:
    if fs.size(path) > MOST_MANIFEST_BYTES:
        raise InputError(f"{source}: is larger than {MOST_MANIFEST_BYTES >> 30} GiB; split it")
    base = posixpath.dirname(source) if is_address(source) else str(Path(source).absolute().parent)
    for number, text in enumerate(_rows(fs, path, source), 1):
        if "\0" in text or "\n" in text:
            raise InputError(f"{source}: entry {number}: is not an address")
        if is_address(text):
            relative = posixpath.basename(text.split("?")[0])
        else:
            relative = text if not Path(text).is_absolute() else Path(text).name
            text = posixpath.join(base, text)
        yield Item(_inside(relative), text, *_known(text))


def _rows(fs: Any, path: str, source: str) -> Iterable[str]:
    suffix = Path(path).suffix.lower()
    if suffix == ".parquet":
        yield from _parquet_rows(fs, path, source)
        return
    with fs.open(path, "rb") as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="strict", newline="")
        try:
            if suffix == ".txt":
                yield from (line.strip() for line in text if line.strip() and not line.startswith("#"))
                return
            table = csv.DictReader(text, delimiter="\t" if suffix == ".tsv" else ",")
            column = _column([name or "" for name in table.fieldnames or ()], source)
            for row in table:
                if value := (row[column] or "").strip():
                    yield value
        except UnicodeDecodeError:
            raise InputError(f"{source}: is not UTF-8 text; save it as UTF-8") from None
        except csv.Error as error:
            raise InputError(f"{source}: line {table.line_num}: {error}") from None


def _parquet_rows(fs: Any, path: str, source: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with fs.open(path, "rb") as raw:
            table = pq.ParquetFile(raw)
            column = _column(table.schema_arrow.names, source)
            for batch in table.iter_batches(columns=[column]):
                yield from (str(value) for value in batch.column(0).to_pylist() if value)
    except pa.ArrowException as error:
        raise InputError(f"{source}: is not a whole Parquet file ({error})") from None


def _column(names: list[str], source: str) -> str:
    by_name = {name.strip().lower(): name for name in names}
    for wanted in ADDRESS_COLUMNS:
        if wanted in by_name:
            return by_name[wanted]
    raise InputError(f"{source}: has the columns {', '.join(names)}; one must be named {' or '.join(ADDRESS_COLUMNS)}")


def _inside(relative: str) -> str:
    """A name that stays below the output folder: no root, no way up, no ending."""
    parts = [part for part in Path(relative).parts if part not in ("/", "..", ".")]
    return str(Path(*parts).with_suffix("")) if parts else "item"


def _known(address: str) -> tuple[int, str]:
    """Size and version of a file of this machine; other addresses are not asked one by one."""
    if is_address(address):
        return 0, ""
    try:
        status = Path(address).stat()
    except OSError:
        return 0, ""
    return status.st_size, f"{status.st_size}:{status.st_mtime_ns}"


def _item(name: str, address: str, info: dict[str, Any]) -> Item:
    size = int(info.get("size") or 0)
    if not is_address(address):
        return Item(_inside(f"{name}.x"), address, *_known(address))
    tag = info.get("ETag") or info.get("etag") or info.get("LastModified") or info.get("mtime") or ""
    return Item(_inside(f"{name}.x"), address, size, f"{size}:{tag}")


def _address(fs: Any, path: str, source: str) -> str:
    return fs.unstrip_protocol(path) if is_address(source) else path
