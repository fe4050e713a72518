"""Tables as people export them: any encoding, separator and decimal sign; rows of numbers by column, each fault named.

Read as text: UTF-8 with or without a mark, UTF-16 (as eye trackers write it), else Latin-1; commas, semicolons, tabs or
bars between cells; a decimal comma where cells are not separated by commas or are quoted; any case and spaces round
the names of columns; ``.gz`` compressed. Nothing is read without a limit.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from diffsal.errors import InputError

SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
SEPARATORS = ",;\t|"
MOST_CHARACTERS = 1 << 20  # in one row
MOST_BYTES = 2 << 30  # of one table, decompressed
MOST_EXPANSION, SMALL_BYTES = 300, 64 << 20  # a compressed table that grows more than this, and above that, is a bomb
LOST_WORDS = frozenset(("", ".", "-", "--", "nan", "na", "n/a", "null", "none", "missing", "lost", "blink"))


class Row(NamedTuple):
    """``line``: its number in the file, from 1. ``cells``: by lower-case name of the column, stripped."""

    line: int
    cells: dict[str, str]


def read_rows(path: Path, columns: tuple[str | tuple[str, ...], ...]) -> Iterator[Row]:
    """The rows of a table that has ``columns`` (of a tuple one is enough) and perhaps others.

    Raises :class:`InputError`, naming file, row and cause: missing, damaged, too large, without a column, a row that is
    too short.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file: the fixations of this clip or set belong there")
    try:
        with _open(path) as file:
            yield from _rows(path, _Lines(path, file), columns)
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeError) as error:
        raise InputError(f"{path}: damaged or cut short ({error}); fetch it again") from None


def number(row: Row, column: str, path: Path) -> float:
    """A cell as a number, with a decimal point or comma. :class:`InputError` names file, row and cell."""
    text = row.cells[column]
    try:
        return _to_float(text)
    except ValueError:
        raise InputError(f"{path}: line {row.line}: its {column} {text[:40]!r} is no number") from None


def number_or_lost(row: Row, column: str, path: Path) -> float:
    """:func:`number`, NaN where the cell says that the sample is lost: empty, ``.``, ``NA``, ``missing`` …"""
    return float("nan") if row.cells[column].lower() in LOST_WORDS else number(row, column, path)


def numbered(observers: Iterable[str]) -> dict[str, float]:
    """Each observer's number: what the table calls them where all are numbers, else from 1 in the order of names."""
    names = sorted(set(observers), key=by_name)
    try:
        numbers = {name: _to_float(name) for name in names}
    except ValueError:
        numbers = {}
    if names and np.isfinite(list(numbers.values())).sum() == len(names):
        return numbers
    return {name: float(number) for number, name in enumerate(names, 1)}


def by_name(name: str) -> tuple[float, str]:
    """The order of names, 2 before 10."""
    return (float(name) if name.isdecimal() and len(name) < 16 else math.inf, name)


def _to_float(text: str) -> float:
    if "_" in text:  # Python's float takes 1_000
        raise ValueError
    return float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)


def _rows(path: Path, lines: _Lines, columns: tuple[str | tuple[str, ...], ...]) -> Iterator[Row]:
    header = ""
    while not header.strip():
        header = next(lines, "\0")
    header = "" if header == "\0" else header
    separator = max(SEPARATORS, key=header.count)
    names = [name.strip().lower() for name in next(csv.reader([header], delimiter=separator, skipinitialspace=True))] \
        if header else []
    wanted = [choice if isinstance(choice, tuple) else (choice,) for choice in columns]
    missing = [choice[0] for choice in wanted if not any(name in names for name in choice)]
    if missing:
        expected = ",".join(" or ".join(choice) for choice in wanted)
        raise InputError(f"{path}: no column {', '.join(missing)}: expected {expected}")
    least = 1 + max(names.index(name) for choice in wanted for name in choice if name in names)
    for cells in csv.reader(lines, delimiter=separator, skipinitialspace=True):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) < least or (separator == "," and len(cells) > len(names) and any(cells[len(names) :])):
            hint = " (decimal commas need semicolons or tabs between cells)" if len(cells) > len(names) else ""
            raise InputError(f"{path}: line {lines.number} has {len(cells)} cells, expected {len(names)}{hint}: "
                             f"{separator.join(cells)[:80]}")
        yield Row(lines.number, dict(zip(names, (cell.strip() for cell in cells), strict=False)))


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


class _Lines:
    """The lines of a file as text, each of bounded length; ``number`` is that of the last."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.number, self._read = path, 0, 0
        self._compressed = path.stat().st_size if path.suffix.lower() == ".gz" else None
        buffered = io.BufferedReader(file) if not isinstance(file, io.BufferedReader) else file  # type: ignore
        self._text = io.TextIOWrapper(buffered, _encoding(buffered.peek(4096)[:4096]), "replace", newline="")

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._text.readline(MOST_CHARACTERS)
        if not line:
            raise StopIteration
        self.number += 1
        self._read += len(line)
        if len(line) >= MOST_CHARACTERS:
            raise InputError(f"{self.path}: line {self.number} is longer than {MOST_CHARACTERS:,} characters; is it a "
                             "table?")
        bomb = self._compressed and self._read > max(SMALL_BYTES, MOST_EXPANSION * self._compressed)
        if bomb or self._read > MOST_BYTES:
            raise InputError(f"{self.path}: holds more than {self._read >> 20:,} MB of text; divide the table")
        if "\0" in line:
            raise InputError(f"{self.path}: line {self.number} holds bytes that are no text; export the table again")
        return line


def _encoding(start: bytes) -> str:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    nulls = [start[i::2].count(0) for i in (0, 1)]
    if max(nulls) * 4 > len(start) > 1:  # UTF-16 without its mark: every other byte is zero
        return "utf-16-le" if nulls[1] > nulls[0] else "utf-16-be"
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(start) - 4:  # not only a character that the excerpt cuts
            return "latin-1"
    return "utf-8-sig"
