"""Two cuts compared, on disk: JSON, CSV, or a picture or page of the chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffsal.decisions.cuts import REST, Change, CutComparison
from diffsal.decisions.exports import write_json
from diffsal.decisions.regions import Attended
from diffsal.decisions.requirements import Requirement
from diffsal.files import write_csv

SCHEMA, VERSION = "diffsal.cuts", 1
CUT_SUFFIXES = (".json", ".csv", ".png", ".pdf", ".svg", ".html")


def write_cuts(result: CutComparison, place: Path, requirements: Sequence[Requirement] = ()) -> None:
    """By its ending: ``.json``, ``.csv`` (a row per moment), or a chart: ``.png``, ``.pdf``, ``.svg``, ``.html``."""
    if place.suffix.lower() == ".json":
        write_json(place, as_document(result, requirements))
    elif place.suffix.lower() == ".csv":
        names = result.names()
        rows = (
            [
                f"{result.b.seconds[j]:.6f}",
                result.a.index[i],
                result.b.index[j],
                f"{moved:.5f}",
                *(_cell(cut.shares[name][k]) for name in names for cut, k in ((result.a, i), (result.b, j))),
            ]
            for (i, j), moved in zip(result.pairs, result.moved, strict=True)
        )
        columns = [f"{name}, {cut}" for name in names for cut in "AB"]
        write_csv(place, ("seconds", "index A", "index B", "moved", *columns), rows)
    else:
        from diffsal.decisions.cut_chart import write_cut_chart

        write_cut_chart(result, place)


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.5f}"


def as_document(result: CutComparison, requirements: Sequence[Requirement] = ()) -> dict[str, Any]:
    """Schema ``diffsal.cuts`` version 1, as docs/decisions.md describes it."""
    changes = {change.name: change for change in result.changes()}
    whole = {name: change.whole_b for name, change in changes.items()}
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "a": _cut(result.a, result.lasts[0]),
        "b": _cut(result.b, result.lasts[1]),
        "alignment": "clock",
        "compared_seconds": round(result.common_seconds, 6),
        "compared_frames": len(result.pairs),
        "samples": result.num_samples,
        "seed": result.seed,
        "moved": round(float(np.mean(result.moved)), 5),
        "gained": _place(result.gained()),
        "lost": _place(result.lost()),
        "regions": [_region(result, change) for name, change in changes.items() if name != REST],
        "elsewhere": _region(result, changes[REST]),
        "requirements": [
            {"requirement": str(r), "share": round(whole[r.name], 5), "met": r.failure(whole) is None}
            for r in requirements
        ],
        "frames": [
            {
                "seconds": round(result.b.seconds[j], 6),
                "index_a": result.a.index[i],
                "index_b": result.b.index[j],
                "moved": round(moved, 5),
                "a": {name: _number(table[i]) for name, table in result.a.shares.items()},
                "b": {name: _number(table[j]) for name, table in result.b.shares.items()},
            }
            for (i, j), moved in zip(result.pairs, result.moved, strict=True)
        ],
    }


def _cut(cut: Attended, seconds: float) -> dict[str, Any]:
    return {
        "source": Path(cut.source).name,
        "width": cut.width,
        "height": cut.height,
        "frames": len(cut.index),
        "seconds": round(seconds, 6),
    }


def _place(found: tuple[float, float, float]) -> dict[str, float]:
    return {"x": round(found[0], 4), "y": round(found[1], 4), "share": round(found[2], 5)}


def _region(result: CutComparison, change: Change) -> dict[str, Any]:
    document = {"name": change.name, **_change(change)}
    people = result.people(change.name)
    if people is not None:
        document["people"] = _change(people)
    return document


def _change(change: Change) -> dict[str, Any]:
    return {
        "a": _number(change.a),
        "b": _number(change.b),
        "difference": _number(change.difference),
        "interval": _pair(change.interval),
        "interval_from": change.interval_from,
        "interval_blocks": _pair(change.blocks),
        "interval_samples": _pair(change.samples),
        "block_seconds": _number(change.block_seconds),
        "whole_a": _number(change.whole_a),
        "whole_b": _number(change.whole_b),
    }


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [round(v, 5) for v in interval]


def _number(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), 5)
