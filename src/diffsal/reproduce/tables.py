"""Ours beside the paper's: scores averaged as the paper averages them, as a table in Markdown and JSON"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffsal.config import ModelConfig
from diffsal.files import write_whole
from diffsal.reproduce.steps import Evaluation, config_of
from diffsal.scoring.literature import published_rows
from diffsal.weights.describe import count_parts

TITLES = {"avad": "AVAD", "etmd": "ETMD", "coutrot1": "Coutrot1", "dhf1k": "DHF1K", "hollywood2": "Hollywood-2",
          "ucf_sports": "UCF Sports"}
TABLE7_METRICS, TABLE8_METRICS = ("CC", "SIM"), ("CC", "NSS", "AUC-J", "SIM")
TABLE7_METHODS = {"resnet3d_50": "DiffSal (3D ResNet)", "s3d": "DiffSal (S3D)", "mvit_v2_s": "DiffSal (MViT)"}
B1 = ("Section B.1 says that DiffSal with S3D is ahead of CASP-Net, and with the 3D ResNet ahead of STAViS. It prints "
      "no figures of theirs, so their rows are empty.")
PAPER, OURS, APART = "the paper's", "ours", "ours less the paper's"
Column = tuple[str, str]  # a data set and a metric


@dataclass(frozen=True)
class Row:
    """One line of a table; a cell that is None, or not there, is not known. ``folds``: each fold's own mean."""

    method: str
    whose: str
    cells: dict[Column, float | None] = field(default_factory=dict)
    parameters: float | None = None
    flops: float | None = None
    folds: dict[Column, list[float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Rows over ``columns``; ``has_sizes``: with parameters and multiply-accumulates."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    has_sizes: bool = False

    def to_markdown(self) -> str:
        sizes = ["parameters", "multiply-accumulates"] if self.has_sizes else []
        head = ["", "", *sizes, *(f"{TITLES[name]} {metric}" for name, metric in self.columns)]
        lines = [f"# {self.title}", "", _line(head), _line(["---"] * len(head))]
        for row in self.rows:
            counts = [_million(row.parameters), _giga(row.flops)] if self.has_sizes else []
            signed = row.whose == APART
            lines.append(_line([row.method, row.whose, *counts, *(
                _number(row.cells.get(column), signed) for column in self.columns)]))
        folds = [f"- {row.method}, {TITLES[name]} {metric}: {', '.join(_number(v) for v in values)}"
                 for row in self.rows for (name, metric), values in row.folds.items() if len(values) > 1]
        parts = [*lines, "", *(f"{note}\n" for note in self.notes)]
        return "\n".join([*parts, *(["Each fold by itself:", "", *folds, ""] if folds else [])])

    def to_dict(self) -> dict[str, Any]:
        def nested(cells: dict[Column, Any]) -> dict[str, dict[str, Any]]:
            found: dict[str, dict[str, Any]] = {}
            for (name, metric), value in cells.items():
                found.setdefault(name, {})[metric] = value
            return found

        return {"title": self.title, "notes": list(self.notes), "rows": [
            {"method": row.method, "whose": row.whose, "mean": nested(row.cells), "folds": nested(row.folds),
             "parameters": row.parameters, "flops": row.flops} for row in self.rows]}

    def write(self, markdown: Path, document: Path) -> None:
        """Both files, each whole or not at all."""
        write_whole(markdown, self.to_markdown().encode())
        write_whole(document, (json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n").encode())


# --- scores -------------------------------------------------------------------------------------------------------


def pooled(documents: Sequence[dict], metric: str) -> float | None:
    """One model's mean over the documents of several folds: over their videos, each video once.

    Each fold's videos are scored by its own network, and each counts alike, however many its fold has; a protocol that
    averages over frames weighs them by theirs. None where nothing is defined.
    """
    models = [found["models"][0] for document in documents for found in document["sets"]]
    videos = [video for model in models for video in model["videos"] if video["mean"][metric] is not None]
    if not videos:
        return None
    by_frames = documents[0]["protocol"]["average"] == "frames"
    weights = [v["frames"] if by_frames else 1 for v in videos]
    return float(np.average([v["mean"][metric] for v in videos], weights=weights))


def scored_row(method: str, sets: dict[str, tuple[Evaluation, ...]], metrics: tuple[str, ...]) -> Row:
    """Our row: every set's folds pooled."""
    cells: dict[Column, float | None] = {}
    folds: dict[Column, list[float | None]] = {}
    for name, evaluations in sets.items():
        documents = [one.scores() for one in evaluations]
        for metric in metrics:
            cells[name, metric] = pooled(documents, metric)
            folds[name, metric] = [pooled([d], metric) for d in documents]
    return Row(method, OURS, cells, folds=folds)


def published(table: str, method: str | None = None) -> list[Row]:
    """The supplement's rows of a table, of one ``method`` or in its order."""
    found: dict[str, Row] = {}
    for entry in published_rows():
        if entry["source"].endswith(f"supplement, {table}") and method in (None, entry["method"]):
            row = found.setdefault(entry["method"], Row(entry["method"], PAPER, {}, entry["parameters"],
                                                        entry["flops"]))
            row.cells.update({(entry["dataset"], m): v for m, v in entry["mean"].items()})
    return list(found.values())


def difference(ours: Row, paper: Row) -> Row:
    cells: dict[Column, float | None] = {}
    for column, value in ours.cells.items():
        other = paper.cells.get(column)
        cells[column] = None if value is None or other is None else value - other
    return Row(ours.method, APART, cells)


def notes_on(evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    """The protocol, how many videos were scored, and where the weights come from."""
    documents = {one: one.scores() for one in evaluations}
    protocol = next(iter(documents.values()))["protocol"]
    counts: dict[str, list[int]] = {}
    for one, document in documents.items():
        for found in document["sets"]:
            count = counts.setdefault(one.dataset, [0, 0])
            count[0] += found["videos"]
            count[1] += found["frames"]["scored"]
    scored = ", ".join(f"{TITLES[name]} {videos} videos with {frames} frames"
                       for name, (videos, frames) in counts.items())
    faults = sum(len(document["problems"]) for document in documents.values())
    told = f" {faults} faults of the data: see `problems` in the scores.json files." if faults else ""
    networks = ", ".join(dict.fromkeys(f"{one.network.name}: {one.network.weights}" for one in evaluations))
    return (f"Protocol `{protocol['name']}`. {protocol['words']}", f"Scored over all networks: {scored}.{told}",
            f"Weights: {networks}.")


# --- the two tables -----------------------------------------------------------------------------------------------


def draw_table7(scored: dict[str, dict[str, tuple[Evaluation, ...]]], paths: tuple[Path, ...]) -> list[str]:
    """Three encoders, each ours beside the paper's."""
    rows: list[Row] = []
    for encoder, sets in scored.items():
        (paper,) = published("Table 7", TABLE7_METHODS[encoder])
        ours = scored_row(TABLE7_METHODS[encoder], sets, TABLE7_METRICS)
        rows += [paper, ours, difference(ours, paper)]
        other = {"resnet3d_50": "STAViS", "s3d": "CASP-Net"}.get(encoder)
        rows += [Row(other, PAPER)] if other else []
    columns = tuple((name, metric) for name in next(iter(scored.values())) for metric in TABLE7_METRICS)
    every = [one for sets in scored.values() for folds in sets.values() for one in folds]
    table = Table("Table 7: video encoders on the audio-visual sets", columns, tuple(rows), (*notes_on(every), B1))
    table.write(*paths)
    return []


def draw_table8(scored: dict[str, Evaluation], paths: tuple[Path, ...]) -> list[str]:
    """The paper's rows, ours below."""
    rows = published("Table 8")
    paper = rows[-1]
    configs = {config_of(one.network) for one in scored.values()}
    parameters, flops = sizes(next(iter(configs))) if len(configs) == 1 else (None, None)
    ours = scored_row("DiffSal", {name: (one,) for name, one in scored.items()}, TABLE8_METRICS)
    ours = Row(ours.method, ours.whose, ours.cells, parameters, flops)
    columns = tuple((name, metric) for name in scored for metric in TABLE8_METRICS)
    notes = (*notes_on(list(scored.values())), "Multiply-accumulates as the paper counts them: without the products "
             "inside attention (docs/paper.md).")
    every = (*rows, ours, difference(ours, paper))
    Table("Table 8: without sound, beside others", columns, every, notes, True).write(*paths)
    return []


def sizes(config: ModelConfig) -> tuple[int, int]:
    """Parameters, and multiply-accumulates as the paper counts them."""
    parts = count_parts(config)
    return sum(p.parameters for p in parts), sum(p.paper_multiply_accumulates for p in parts)


# --- cells --------------------------------------------------------------------------------------------------------


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, signed: bool = False) -> str:
    return "–" if value is None else f"{value:+.3f}" if signed else f"{value:.3f}"


def _million(count: float | None) -> str:
    return "–" if count is None else f"{count / 1e6:.2f} M"


def _giga(count: float | None) -> str:
    return "–" if count is None else f"{count / 1e9:.2f} G"
