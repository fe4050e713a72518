"""Tables as people export them: any encoding, separator and decimal sign; rows of numbers by column, each fault named.

Read as text: UTF-8 with or without a mark, UTF-16 (as eye trackers write it) or UTF-32, bytes that are none of it as
Latin-1; commas, semicolons, tabs, bars or spaces between cells; a decimal comma where cells are not separated by
commas or are quoted; titles and comments before the names of columns; those in any case, with a unit in brackets
(``Start [ms]``); ``.gz`` compressed. Nothing is read without a limit.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple

from diffsal.errors import InputError
from diffsal.files import check_plain

SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
SEPARATORS = ",;\t| "
COMMENTS = ("#", "%", "//")
MOST_LINES_BEFORE = 200  # the names of columns: titles, comments, who exported it and when
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # what .xlsx and .xls begin with
MOST_NAMES_TOLD = 12  # of the columns that are there, where one is missing
LARGEST_NUMBER = 2.0**53  # of an observer; above, a float stands for several
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}  # what the name of a column of times ends in
UNIT_WORDS = (  # other words for these, at the end of a name in small letters
    (re.compile(r"_secs?$|_seconds?$"), "_s"), (re.compile(r"_msecs?$|_milliseconds?$"), "_ms"),
    (re.compile(r"_[\u00b5\u03bc]s$|_usecs?$|_microseconds?$"), "_us"), (re.compile(r"_nanoseconds?$"), "_ns"),
    (re.compile(r"_pix(els?)?$"), "_px"), (re.compile(r"_degrees?$|_\u00b0$|_dva$"), "_deg"),
    (re.compile(r"_fractions$"), "_fraction"),
)
THOUSANDS = (  # a number that may be one, its mark, and other cells in which the decimal mark is the other one
    (re.compile(r"[+-]?[1-9]\d{0,2},\d{3}"), "comma", re.compile(r"[+-]?\d*\.\d+"), "point"),
    (re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}"), "point", re.compile(r"[+-]?\d*,\d+"), "comma"),
)
CLOCK_TIME = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d+)?)")  # hours, minutes, seconds
MOST_CHARACTERS = 1 << 20  # in one row
MOST_BYTES = 2 << 30  # of one table, decompressed
MOST_EXPANSION, SMALL_BYTES = 300, 64 << 20  # a compressed table that grows more than this, and above that, is a bomb
LOST_WORDS = frozenset((
    "", ".", "-", "--", "?", "*", "nan", "-nan", "na", "n/a", "<na>", "nat", "null", "(null)", "nil", "none", "missing",
    "undefined", "lost", "blink", "#n/a", "#na", "#value!", "#div/0!", "#num!", "#ref!", "#null!", "#name?",  # Excel
    "1.#qnan", "-1.#qnan", "1.#ind", "-1.#ind", "1.#inf", "-1.#inf", "nan(ind)", "-nan(ind)"))  # Windows


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
    check_plain(path)
    try:
        with _open(path) as file:
            yield from _rows(path, _Lines(path, file), columns)
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeError) as error:
        raise InputError(f"{path}: damaged or cut short ({error}); fetch it again") from None


@cache
def in_seconds(name: str) -> tuple[str, ...]:
    """The columns of which one gives the time ``name``: ``t_s``, ``t_ms``, ``t_us`` or ``t_ns``."""
    return tuple(f"{name}_{unit}" for unit in SECONDS)


def seconds(row: Row, name: str, path: Path) -> float:
    """The time ``name`` of a row from one of :func:`in_seconds`; also ``0:01:02.5``. :class:`InputError` without one.
    """
    column = next(c for c in in_seconds(name) if c in row.cells)
    clock = CLOCK_TIME.fullmatch(row.cells[column])
    if clock:
        hours, minutes, rest = (float((part or "0").replace(",", ".")) for part in clock.groups())
        return hours * 3600 + minutes * 60 + rest
    found = number(row, column, path) * SECONDS[column.rpartition("_")[2]]
    if not math.isfinite(found):
        raise InputError(f"{path}: line {row.line}: its {column} {row.cells[column]!r} is no time")
    return found


def number(row: Row, column: str, path: Path) -> float:
    """A cell as a number, with a decimal point or comma, or in percent. :class:`InputError` names file, row and cell.
    """
    text = row.cells[column]
    try:
        found = _to_float(text)
    except ValueError:
        raise InputError(f"{path}: line {row.line}: its {column} {text[:40]!r} is no number") from None
    for thousands, mark, other, decimal in THOUSANDS:
        if thousands.fullmatch(text) and any(other.fullmatch(cell) for cell in row.cells.values()):
            raise InputError(f"{path}: line {row.line}: its {column} {text[:40]!r} has a {mark} where other cells have "
                             f"a decimal {decimal}; write thousands without a {mark}")
    return found


def number_or_lost(row: Row, column: str, path: Path) -> float:
    """:func:`number`, NaN where the cell says that the sample is lost: empty, ``.``, ``NA``, ``missing`` …"""
    return float("nan") if row.cells[column].lower() in LOST_WORDS else number(row, column, path)


def place(row: Row, names: tuple[str, str], path: Path) -> float:
    """:func:`number_or_lost` of the column ``names`` (``x`` and ``x_px``): of both the one that names its unit."""
    return number_or_lost(row, names[names[1] in row.cells], path)


def observer(row: Row, path: Path) -> str:
    """Who looked. :class:`InputError` where the cell is empty: rows of several people would become one person's."""
    name = row.cells["observer"]
    if not name:
        raise InputError(f"{path}: line {row.line}: its observer is empty; write the name in every row")
    return name


def numbered(observers: Iterable[str]) -> dict[str, float]:
    """Each observer's number: what the table calls them where all are whole numbers, else from 1 in order of names."""
    names = sorted(set(observers), key=by_name)
    try:
        numbers = {name: _to_float(name) for name in names}
    except ValueError:
        numbers = {}
    if numbers and all(n.is_integer() and abs(n) < LARGEST_NUMBER for n in numbers.values()):
        return numbers
    return {name: float(number) for number, name in enumerate(names, 1)}


def by_name(name: str) -> tuple[float, str]:
    """The order of names, 2 before 10."""
    return (float(name) if name.isdecimal() and len(name) < 16 else math.inf, name)


def _to_float(text: str) -> float:
    if "_" in text:  # Python's float takes 1_000
        raise ValueError
    text = text.replace("\N{MINUS SIGN}", "-")
    if text.endswith("%"):
        return _to_float(text[:-1].rstrip()) / 100
    return float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)


def _rows(path: Path, lines: _Lines, columns: tuple[str | tuple[str, ...], ...]) -> Iterator[Row]:
    wanted = [choice if isinstance(choice, tuple) else (choice,) for choice in columns]
    names, separator = _header(path, lines, wanted)
    least = 1 + max(names.index(name) for choice in wanted for name in choice if name in names)
    text = (line.strip(" ") for line in lines) if separator == " " else lines
    last = lines.number
    for cells in csv.reader(text, delimiter=separator, skipinitialspace=True):
        num_lines, last = lines.number - last, lines.number
        if not any(cell.strip() for cell in cells):
            continue
        where = f"{path}: line {last}"
        if num_lines > 1 and any(cell.count(separator) >= least - 1 for cell in cells if "\n" in cell or "\r" in cell):
            raise InputError(f"{where} ends a cell in quotes that holds whole rows; a quote before it is not closed")
        is_comment = cells[0].lstrip().startswith(COMMENTS)
        if is_comment and len(cells) < least:
            continue
        if is_comment:
            raise InputError(f"{where} begins with {cells[0].strip()[:20]!r}: remove it if it is a comment, or call "
                             f"its {names[0]} otherwise")
        if len(cells) < least or any(cell.strip() for cell in cells[len(names) :]):
            hint = "" if len(cells) <= len(names) else " (decimal commas need semicolons or tabs between cells)" if (
                separator == ",") else " (each column needs a name)"
            raise InputError(f"{where} has {len(cells)} cells, expected {len(names)}{hint}: "
                             f"{separator.join(cells)[:80]}")
        yield Row(last, dict(zip(names, (cell.strip() for cell in cells), strict=False)))


def _header(path: Path, lines: _Lines, wanted: list[tuple[str, ...]]) -> tuple[list[str], str]:
    """The names of the columns, from the first line that has all of ``wanted``, and what separates them."""
    nearest: list[str] = [choice[0] for choice in wanted]  # the fewest that a line lacks
    there: list[str] = []  # the names on that line
    is_empty = True
    for line in lines:
        is_empty = is_empty and not line.strip()
        bare = line.strip(" \r\n\ufeff").lstrip("#%/ ")
        for separator in sorted(SEPARATORS, key=line.count, reverse=True) if bare else ():
            cells = next(csv.reader([bare], delimiter=separator, skipinitialspace=True))
            names = [_column(cell) for cell in cells]
            missing = [choice[0] for choice in wanted if not any(name in names for name in choice)]
            if not missing:
                twice = [name for choice in wanted for name in choice if names.count(name) > 1]
                if twice:
                    raise InputError(f"{path}: two columns are called {twice[0]}; give each a name of its own")
                return names, separator
            is_table = separator != " " or not any(other in bare for other in SEPARATORS[:-1])  # and no words
            if is_table and (len(missing), -len(names)) < (len(nearest), -len(there)):
                nearest, there = missing, names
        if lines.number >= MOST_LINES_BEFORE:
            break
    if is_empty:
        raise InputError(f"{path}: the file is empty; export the table again")
    expected = ",".join(" or ".join(choice) for choice in wanted)
    told = ", ".join(name[:40] for name in there[:MOST_NAMES_TOLD]) + " …" * (len(there) > MOST_NAMES_TOLD)
    there_are = f"; there are {told}" if len(there) > 1 else ""
    raise InputError(f"{path}: no column {', '.join(nearest)}: expected {expected}{there_are}")


def _column(cell: str) -> str:
    """The name of a column: small letters, a unit after ``_`` (``Start [µs]``, ``t / s``) in its short form."""
    name = re.sub(r"[\s()\[\]/]+", "_", cell.strip(" \t'\"\xa0\ufeff").lower()).strip("_")
    for word, short in UNIT_WORDS:
        name = word.sub(short, name)
    return name


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


class _Lines:
    """The lines of a file as text, each of bounded length; ``number`` is that of the last."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.number, self._read = path, 0, 0
        self._compressed = path.stat().st_size if path.suffix.lower() == ".gz" else None
        buffered = io.BufferedReader(file) if not isinstance(file, io.BufferedReader) else file  # type: ignore
        start = buffered.peek(4096)[:4096]
        if start.startswith(WORKBOOKS):
            raise InputError(f"{path}: is a workbook of Excel or an archive, and no text; export the table as CSV")
        encoding = _encoding(start)
        codecs.register_error("as latin-1", _as_latin_1)
        self._text = io.TextIOWrapper(buffered, encoding, "as latin-1" if "8" in encoding else "replace", newline="")

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
        if not line.strip("\x1a\r\n"):
            return "\n"  # the end that DOS writes
        if "\0" in line:
            raise InputError(f"{self.path}: line {self.number} holds bytes that are no text; export the table again")
        return line


def _encoding(start: bytes) -> str:
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    nulls = [start[i::2].count(0) for i in (0, 1)]
    if max(nulls) * 4 > len(start) > 1:  # UTF-16 without its mark: every other byte is zero
        return "utf-16-le" if nulls[1] > nulls[0] else "utf-16-be"
    return "utf-8-sig"


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are no UTF-8, each as a character of its own: two names that differ stay two."""
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end
