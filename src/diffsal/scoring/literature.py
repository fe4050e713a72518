"""Rows of the literature to stand beside ours: the paper's Tables 7 and 8, and what later papers report."""

from __future__ import annotations

import json
from importlib.resources import files


def published_rows(datasets: list[str] | None = None) -> list[dict]:
    """One dictionary per method and data set: ``method``, ``venue``, ``dataset``, ``mean``, ``parameters``, ``flops``,
    ``source``; of ``datasets`` (names of ``DATASETS``), or of all. ``parameters`` and ``flops`` can be None.
    """
    document = json.loads((files("diffsal") / "scoring" / "literature.json").read_text())
    rows = []
    for source in document["sources"]:
        for entry in source["methods"]:
            for dataset, values in entry["scores"].items():
                if datasets is None or dataset in datasets:
                    metrics = source["metrics"]
                    rows.append({
                        "method": entry["method"], "venue": entry.get("venue"), "dataset": dataset,
                        "mean": dict(zip(metrics, values, strict=True)), "parameters": entry.get("parameters"),
                        "flops": entry.get("flops"), "source": source["source"],
                    })
    return rows
