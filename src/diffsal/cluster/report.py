"""What a run on many machines came to: a page and the same as JSON, beside the results."""

from __future__ import annotations

import json
import os
import time
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from diffsal.cluster.ledger import Ledger
from diffsal.cluster.manifest import file_system, is_address
from diffsal.files import write_whole

SCHEMA, VERSION = "diffsal.cluster", 1
MOST_ROWS = 1000  # of failed items that the page shows; the JSON has them all


def summary(ledger: Ledger) -> dict[str, Any]:
    """Counts, frames, seconds of work, and every item that failed with its line."""
    frames, seconds = ledger.totals()
    return {
        "schema": SCHEMA, "version": VERSION, "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "items": ledger.counts(), "frames": frames, "worker_seconds": round(seconds, 3),
        "frames_per_worker_second": round(frames / seconds, 2) if seconds else None,
        "failed": [{"name": row["name"], "address": row["address"], "line": row["line"]}
                   for row in ledger.rows("failed")],
        "odd": [{"name": row["name"], "line": row["line"]}
                for row in islice((row for row in ledger.rows("done") if row["line"]), MOST_ROWS)],
    }


def write_report(ledger: Ledger, out: str) -> None:
    """``report.json`` and ``report.html`` below ``out``."""
    from jinja2 import Environment

    document = summary(ledger)
    template = Environment(autoescape=True).from_string(
        (files("diffsal") / "cluster" / "report.html").read_text(encoding="utf-8"))
    _store(out, "report.json", json.dumps(document, indent=1, ensure_ascii=False).encode())
    _store(out, "report.html", template.render(document=document, most=MOST_ROWS).encode())


def plain(text: str) -> str:
    """``text`` without what a terminal would act on."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _store(out: str, name: str, data: bytes) -> None:
    fs, root = file_system(out)
    if not is_address(out):
        write_whole(Path(out) / name, data)
        return
    target = f"{root.rstrip('/')}/{name}"
    fs.makedirs(os.path.dirname(target), exist_ok=True)
    fs.pipe_file(target, data)
