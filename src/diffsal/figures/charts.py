"""Scatter charts as SVG for a page, drawn by matplotlib: every mark tells its words when it is pointed at."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from diffsal.plots import COLOURS, MARKS, figure_class, legend_name, plain

INCHES = (6.2, 4.0)
GAP = 7  # points between a mark and its name
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # of a mark, the best place first
ALIGN = {1: "left", 0: "center", -1: "right"}, {1: "bottom", 0: "center", -1: "top"}


@dataclass(frozen=True)
class Point:
    """``label`` tells all on hovering; ``name``, if any, stands beside the mark. ``series`` picks colour and mark."""

    x: float
    y: float
    label: str
    series: int = 0
    name: str = ""


@dataclass(frozen=True)
class Scatter:
    """Points over two axes. ``legend`` names the series, by number; ``note`` stands under the chart."""

    title: str
    x_name: str
    y_name: str
    points: tuple[Point, ...]
    legend: tuple[tuple[int, str], ...] = ()
    log_x: bool = False
    note: str = ""

    @property
    def svg(self) -> str:
        """The chart without its title; :class:`diffsal.errors.InputError` where matplotlib is not installed."""
        figure, written = draw_scatter(self), io.StringIO()
        import matplotlib

        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": repr(self)}):
            figure.savefig(written, format="svg", metadata={"Date": None})
        svg = written.getvalue()
        for i, point in enumerate(self.points):
            svg = svg.replace(f'<g id="point{i}">', f'<g class="mark"><title>{escape(point.label)}</title>', 1)
        svg = re.sub(r'<g id="[\w.]+">', "<g>", svg)  # several charts may stand on one page
        opening = f'<svg role="img" aria-label="{escape(self.title)}" viewBox='
        return re.sub(r"<svg [^>]*viewBox=", lambda _: opening, svg[svg.index("<svg") :], count=1)


def draw_scatter(chart: Scatter) -> Any:
    """A matplotlib figure; names stand where they cover no mark and no other name, if there is such a place."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure = figure_class()(figsize=INCHES, layout="constrained")
    axes = figure.add_subplot()
    if chart.log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(EngFormatter())
    names, shown = {series: legend_name(words) for series, words in chart.legend}, set()
    for i, point in enumerate(chart.points):
        kind = point.series % len(MARKS)
        axes.plot([point.x], [point.y], MARKS[kind], color=COLOURS[kind], alpha=0.82, markersize=8, gid=f"point{i}",
                  label=None if point.series in shown else names.get(point.series))
        shown.add(point.series)
    axes.set(xlabel=chart.x_name + " (logarithmic)" * chart.log_x, ylabel=chart.y_name)
    axes.grid(axis="y", color="0.87")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if chart.legend:
        figure.legend(loc="outside lower left", ncols=4, frameon=False, fontsize=9)
    figure.draw_without_rendering()
    place_names(axes, chart.points)
    return figure


def place_names(axes: Any, points: Sequence[Point]) -> None:
    """Each point's name on that side of its mark where it shares least with marks and names that are there."""
    from matplotlib.transforms import Bbox

    marks = [axes.transData.transform((p.x, p.y)) for p in points]
    taken = [Bbox.from_extents(x - GAP, y - GAP, x + GAP, y + GAP) for x, y in marks]
    for point in points:
        if not point.name:
            continue
        texts = [axes.annotate(plain(point.name), (point.x, point.y), (GAP * right, GAP * up),
                               textcoords="offset points", ha=ALIGN[0][right], va=ALIGN[1][up], fontsize=9)
                 for right, up in SIDES]
        boxes = [text.get_window_extent() for text in texts]
        best = min(range(len(boxes)), key=lambda i: (covered(boxes[i], taken, axes.bbox), i))
        taken.append(boxes[best])
        for i, text in enumerate(texts):
            if i != best:
                text.remove()


def covered(box: Any, taken: Sequence[Any], inside: Any) -> float:
    """The area of ``box`` that others have, or that lies outside the axes."""
    from matplotlib.transforms import Bbox

    shared = [common for other in taken if (common := Bbox.intersection(box, other)) is not None]
    within = Bbox.intersection(box, inside)
    outside = box.width * box.height - (0 if within is None else within.width * within.height)
    return sum(common.width * common.height for common in shared) + 10 * outside


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's ρ; NaN for fewer than three pairs or a constant side."""
    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return float("nan")
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic)
