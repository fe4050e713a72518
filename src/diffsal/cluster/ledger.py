"""The ledger: one record per item, in one SQLite file beside the results. What it calls done is done, once.

A result is stored before its record is written. A run that is killed in between makes that result again, the same to
the byte, and then writes the record.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffsal.cluster.manifest import Item, Span, file_system, is_address
from diffsal.errors import InputError
from diffsal.weights.catalogue import cache_folder

FILE_NAME = "ledger.sqlite"
UPLOAD_SECONDS = 60.0  # between two copies of the ledger to an address that is not of this machine
PAGE = 1000  # records read at a time: memory does not grow with their number
MOST_DEATHS = 2  # processes that one item, or one span of it, may end before it counts as failed
TABLES = """
CREATE TABLE IF NOT EXISTS items (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, address TEXT NOT NULL UNIQUE, num_bytes INTEGER NOT NULL,
    version TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', line TEXT NOT NULL DEFAULT '',
    seconds REAL NOT NULL DEFAULT 0, frames INTEGER NOT NULL DEFAULT 0, sha256 TEXT NOT NULL DEFAULT '',
    deaths INTEGER NOT NULL DEFAULT 0, finished_at REAL NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS by_state ON items (state, num_bytes DESC, id);
CREATE TABLE IF NOT EXISTS spans (
    item INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER, is_drawn INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (item, start));
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Record:
    """What became of one item. ``state`` is ``done`` or ``failed``; ``line``: the error, or what is odd about it.

    ``sha256`` (hex) is of its results' bytes, in the order of their names.
    """

    id: int
    state: str
    line: str = ""
    seconds: float = 0.0
    frames: int = 0
    sha256: str = ""


class Ledger:
    """The records of one output address. One process has it at a time."""

    def __init__(self, out: str) -> None:
        self.remote = f"{out.rstrip('/')}/{FILE_NAME}" if is_address(out) else None
        self.path = _cached(out) if self.remote else Path(out) / FILE_NAME
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path.parent / f".{self.path.name}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{out}: another run writes there; wait for it, or give another --out") from None
        if self.remote and not self.path.exists():
            _fetch(self.remote, self.path)
        try:
            self.db = sqlite3.connect(self.path, isolation_level=None)
            self.db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {TABLES}")
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.path}: is not a whole ledger ({error}); move it away, then run again") from None
        self._uploaded = time.monotonic()

    def settings(self, wanted: dict[str, Any]) -> None:
        """Keep what the results depend on. Raises :class:`InputError` where earlier ones were made otherwise."""
        text = json.dumps(wanted, sort_keys=True)
        row = self.db.execute("SELECT value FROM settings WHERE key = 'run'").fetchone()
        if row is None:
            self.db.execute("INSERT INTO settings VALUES ('run', ?)", (text,))
            return
        before = json.loads(row[0])
        other = [f"{key} was {before.get(key)!r} and is {wanted.get(key)!r}"
                 for key in sorted({*before, *wanted}) if before.get(key) != wanted.get(key)]
        if other:
            raise InputError(f"{self.path}: holds results of other settings ({'; '.join(other)}); give another --out")

    def add(self, items: Iterable[Item]) -> int:
        """Add items that are new; one whose file has changed since waits again. The number of items given."""
        count = 0
        self.db.execute("BEGIN")
        try:
            for count, item in enumerate(items, 1):  # noqa: B007
                self._add(item)
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")
        return count

    def _add(self, item: Item) -> None:
        known = self.db.execute("SELECT id, version FROM items WHERE address = ?", (item.address,)).fetchone()
        if known is None:
            values = (item.address, item.num_bytes, item.version)
            suffix = Path(item.address.split("?")[0]).suffix
            digest = hashlib.sha256(item.address.encode()).hexdigest()[:12]
            for name in (item.name, f"{item.name}{suffix}", f"{item.name}-{digest}"):
                if self.db.execute("SELECT 1 FROM items WHERE name = ?", (name,)).fetchone() is None:
                    self.db.execute(
                        "INSERT INTO items (name, address, num_bytes, version) VALUES (?, ?, ?, ?)", (name, *values))
                    return
        elif known[1] != item.version:
            self.db.execute(
                "UPDATE items SET version = ?, num_bytes = ?, state = 'waiting', deaths = 0 WHERE id = ?",
                (item.version, item.num_bytes, known[0]))
            self.db.execute("DELETE FROM spans WHERE item = ?", (known[0],))

    def retry_failed(self) -> int:
        """Let every failed item wait again; their number."""
        return self.db.execute("UPDATE items SET state = 'waiting', deaths = 0 WHERE state = 'failed'").rowcount

    def forget(self, ids: Iterable[int]) -> None:
        """Let these items wait again: their results are gone."""
        self.db.executemany("UPDATE items SET state = 'waiting', deaths = 0 WHERE id = ?", [(i,) for i in ids])

    def waiting(self) -> Iterator[tuple[int, Item]]:
        """Items that wait, large ones first, read a page at a time. Only those that wait when their page is read."""
        size, last = 1 << 62, -1
        while True:
            rows = self.db.execute(
                "SELECT id, name, address, num_bytes, version FROM items WHERE state = 'waiting' AND "
                "(num_bytes < ? OR (num_bytes = ? AND id > ?)) ORDER BY num_bytes DESC, id LIMIT ?",
                (size, size, last, PAGE)).fetchall()
            if not rows:
                return
            yield from ((row[0], Item(*row[1:])) for row in rows)
            last, size = rows[-1][0], rows[-1][3]

    def split(self, item: int, spans: Iterable[Span]) -> None:
        """Keep into which spans a long video is split, none of them drawn."""
        self.db.execute("BEGIN")
        self.db.execute("DELETE FROM spans WHERE item = ?", (item,))
        self.db.executemany(
            "INSERT INTO spans (item, start, stop) VALUES (?, ?, ?)", [(item, s.start, s.stop) for s in spans])
        self.db.execute("COMMIT")

    def span_drawn(self, item: int, span: Span, seconds: float) -> None:
        """A span's maps are stored; ``seconds`` of work."""
        self.db.execute(
            "UPDATE spans SET is_drawn = 1, seconds = ? WHERE item = ? AND start = ?", (seconds, item, span.start))

    def spans(self) -> dict[int, tuple[Item, dict[Span, bool]]]:
        """The items that wait and are split: their spans, in order, and whether each is drawn."""
        found: dict[int, tuple[Item, dict[Span, bool]]] = {}
        for number, *item, start, stop, drawn in self.db.execute(
                "SELECT id, name, address, num_bytes, version, start, stop, is_drawn FROM spans "
                "JOIN items ON id = item WHERE state = 'waiting' ORDER BY id, start"):
            found.setdefault(number, (Item(*item), {}))[1][Span(start, stop)] = bool(drawn)
        return found

    def write(self, records: Iterable[Record]) -> None:
        """Write what became of items, all or none. An item's seconds are those of its spans as well."""
        now = time.time()
        rows = [(r.state, r.line, r.seconds, r.id, r.frames, r.sha256, now, r.id) for r in records]
        self.db.execute("BEGIN")
        self.db.executemany(
            "UPDATE items SET state = ?, line = ?, seconds = ? + "
            "(SELECT COALESCE(SUM(spans.seconds), 0) FROM spans WHERE item = ?), frames = ?, sha256 = ?, "
            "finished_at = ? WHERE id = ?", rows)
        self.db.executemany("DELETE FROM spans WHERE item = ?", [(row[-1],) for row in rows])
        self.db.execute("COMMIT")
        if self.remote and time.monotonic() - self._uploaded > UPLOAD_SECONDS:
            self.upload()

    def died(self, item: int, span: Span | None = None) -> bool:
        """Count a process that ended while it had this item or span; whether it may be tried again."""
        if span is not None:
            where = (item, span.start)
            self.db.execute("UPDATE spans SET deaths = deaths + 1 WHERE item = ? AND start = ?", where)
            row = self.db.execute("SELECT deaths FROM spans WHERE item = ? AND start = ?", where).fetchone()
            return row[0] < MOST_DEATHS
        self.db.execute("UPDATE items SET deaths = deaths + 1 WHERE id = ?", (item,))
        return self.db.execute("SELECT deaths FROM items WHERE id = ?", (item,)).fetchone()[0] < MOST_DEATHS

    def counts(self) -> dict[str, int]:
        """Items by state: ``waiting``, ``done``, ``failed``."""
        found = dict(self.db.execute("SELECT state, COUNT(*) FROM items GROUP BY state").fetchall())
        return {state: found.get(state, 0) for state in ("waiting", "done", "failed")}

    def rows(self, state: str) -> Iterator[dict[str, Any]]:
        """Every record in ``state``, by name."""
        names = ("id", "name", "address", "state", "line", "seconds", "frames", "sha256")
        cursor = self.db.execute(f"SELECT {', '.join(names)} FROM items WHERE state = ? ORDER BY name", (state,))
        yield from (dict(zip(names, row, strict=True)) for row in cursor)

    def totals(self) -> tuple[int, float]:
        """Frames predicted and seconds of work over all items that are done."""
        return self.db.execute(
            "SELECT COALESCE(SUM(frames), 0), COALESCE(SUM(seconds), 0) FROM items WHERE state = 'done'").fetchone()

    def upload(self) -> None:
        """Copy the ledger to an address that is not of this machine."""
        if self.remote is None:
            return
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        fs, path = file_system(self.remote)
        fs.makedirs(os.path.dirname(path), exist_ok=True)
        fs.put_file(str(self.path), path)
        self._uploaded = time.monotonic()

    def close(self) -> None:
        self.upload()
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.db.close()
        self._lock.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cached(out: str) -> Path:
    return cache_folder() / "cluster" / hashlib.sha256(out.rstrip("/").encode()).hexdigest()[:16] / FILE_NAME


def _fetch(address: str, path: Path) -> None:
    fs, remote = file_system(address)
    if fs.exists(remote):
        partial = path.with_suffix(".partial")
        fs.get_file(remote, str(partial))
        partial.replace(path)
