"""Figure 6: scores over the number of modulation stages, as a curve and as numbers"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffsal.files import whole_file
from diffsal.plots import COLOURS, figure_class
from diffsal.reproduce.steps import Evaluation
from diffsal.reproduce.tables import TABLE7_METHODS, TABLE7_METRICS, TITLES, Row, Table, notes_on, published, scored_row

NOTE = ("The supplement draws its curve and prints no numbers. It says that four stages are best; that point's numbers "
        "stand in its Table 7, and are the hollow marks.")


def draw_figure6(scored: dict[int, dict[str, tuple[Evaluation, ...]]], paths: tuple[Path, ...]) -> list[str]:
    """PNG, PDF, Markdown and JSON at ``paths``."""
    ours = {n: scored_row(f"{n} stage{'s' * (n > 1)}", sets, TABLE7_METRICS) for n, sets in scored.items()}
    (paper,) = published("Table 7", TABLE7_METHODS["mvit_v2_s"])
    names = tuple(next(iter(scored.values())))
    chart = draw_curves(ours, paper, names)
    for path in paths[:2]:
        with whole_file(path) as place:
            chart.savefig(place, format=path.suffix[1:], dpi=150)
    columns = tuple((name, metric) for name in names for metric in TABLE7_METRICS)
    every = [one for sets in scored.values() for folds in sets.values() for one in folds]
    theirs = Row("4 stages", paper.whose, {c: paper.cells[c] for c in columns})
    rows, notes = (*ours.values(), theirs), (*notes_on(every), NOTE)
    table = Table("Figure 6: the number of modulation stages", columns, rows, notes)
    table.write(*paths[2:])
    return []


def draw_curves(ours: dict[int, Row], paper: Row, names: tuple[str, ...]) -> Any:
    """A matplotlib figure: a panel per data set, a line per metric; the paper's four stages as hollow marks."""
    chart = figure_class()(figsize=(4.6 * len(names), 3.8), layout="constrained")
    for k, name in enumerate(names):
        axes = chart.add_subplot(1, len(names), k + 1)
        for metric, colour, mark in zip(TABLE7_METRICS, COLOURS, ("o", "s"), strict=False):
            values = [row.cells[name, metric] for row in ours.values()]
            there = [float("nan") if v is None else v for v in values]
            axes.plot(list(ours), there, color=colour, marker=mark, label=f"{metric}, ours")
            axes.plot([max(ours)], [paper.cells[name, metric] or 0.0], color=colour, marker=mark, markersize=10,
                      fillstyle="none", linestyle="none", label=f"{metric}, the paper's")
        axes.set(title=TITLES[name], xlabel="modulation stages", xticks=list(ours))
        axes.grid(axis="y", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    return chart
