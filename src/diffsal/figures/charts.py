"""Scatter charts, laid out in pixels: what a page needs to draw them as SVG. Knows no page and no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Okabe and Ito's colours, told apart by the colour-blind, each with a mark of its own for those who see none
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("circle", "square", "triangle", "diamond", "cross", "ring", "bar")
WIDTH, HEIGHT = 620, 400
LEFT, RIGHT, TOP, BOTTOM = 66, 24, 16, 58
FONT = 15  # of labels, whose letters are about half as wide
MARK = 7


@dataclass(frozen=True)
class Point:
    """``label`` tells all on hovering; ``name``, if any, stands beside the mark. ``series`` picks colour and mark."""

    x: float
    y: float
    label: str
    series: int = 0
    name: str = ""


@dataclass(frozen=True)
class Placed:
    """A point in pixels; ``anchor`` and (``name_x``, ``name_y``) are its name's."""

    point: Point
    x: float
    y: float
    name_x: float = 0.0
    name_y: float = 0.0
    anchor: str = "start"

    @property
    def colour(self) -> str:
        return Scatter.colour_of(self.point.series)

    @property
    def mark(self) -> str:
        return Scatter.mark_of(self.point.series)


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

    @staticmethod
    def colour_of(series: int) -> str:
        return COLOURS[series % len(COLOURS)]

    @staticmethod
    def mark_of(series: int) -> str:
        return MARKS[series % len(MARKS)]

    @property
    def x_range(self) -> tuple[float, float]:
        values = [p.x for p in self.points]
        if self.log_x:
            return 10 ** (math.log10(min(values)) - 0.15), 10 ** (math.log10(max(values)) + 0.25)
        return padded(values)

    @property
    def y_range(self) -> tuple[float, float]:
        return padded([p.y for p in self.points])

    def x_pixel(self, x: float) -> float:
        low, high = self.x_range
        if self.log_x:
            x, low, high = math.log10(x), math.log10(low), math.log10(high)
        return LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y_pixel(self, y: float) -> float:
        low, high = self.y_range
        return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def x_ticks(self) -> list[tuple[float, str]]:
        """(pixel, words) along the x axis."""
        values = log_ticks(*self.x_range) if self.log_x else ticks(*self.x_range)
        return [(self.x_pixel(v), short(v)) for v in values]

    def y_ticks(self) -> list[tuple[float, str]]:
        return [(self.y_pixel(v), short(v)) for v in ticks(*self.y_range)]

    def placed(self) -> list[Placed]:
        """The points, their names where they cover neither a mark nor another name, if there is such a place."""
        marks = [(self.x_pixel(p.x), self.y_pixel(p.y)) for p in self.points]
        taken = [(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in marks]
        found = []
        for point, (x, y) in zip(self.points, marks, strict=True):
            if not point.name:
                found.append(Placed(point, x, y))
                continue
            long = 0.53 * FONT * len(point.name)
            places = [(x + 10, y + 5, "start"), (x - 10, y + 5, "end"), (x, y - 12, "middle"), (x, y + 22, "middle")]
            places += [(x + dx, y + dy, end) for dx, end in ((8, "start"), (-8, "end")) for dy in (-10, 20)]
            boxes = [_box(place, long) for place in places]
            best = min(range(len(places)), key=lambda i: (_overlaps(boxes[i], taken), i))
            taken.append(boxes[best])
            found.append(Placed(point, x, y, *places[best]))
        return found


def _box(place: tuple[float, float, str], long: float) -> tuple[float, float, float, float]:
    x, y, anchor = place
    left = x - {"start": 0, "middle": long / 2, "end": long}[anchor]
    return left, y - FONT * 0.8, left + long, y + FONT * 0.25


def _overlaps(box: tuple, taken: list[tuple]) -> float:
    """The area that a box shares with others, or loses beyond the chart's edges."""
    left, top, right, bottom = box
    area = sum(max(0.0, min(right, r) - max(left, l)) * max(0.0, min(bottom, b) - max(top, t))
               for l, t, r, b in taken)  # noqa: E741
    outside = max(0.0, LEFT - left) + max(0.0, right - WIDTH) + max(0.0, TOP - top) + max(0.0, bottom - HEIGHT + BOTTOM)
    return area + FONT * outside


def padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of ``values`` and a little more on both sides."""
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers between ``low`` and ``high``."""
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten; powers alone where those are many, even steps where they are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for heads in ((1, 2, 5), (1,)):
        found = [m * 10.0**p for p in powers for m in heads if low <= m * 10.0**p <= high]
        if len(found) <= 9:
            break
    return found if len(found) > 2 else ticks(low, high, 4)


def short(value: float) -> str:
    """A number in few characters: 0.05, 3.5 M, 160 G."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == ' k' else size):.4g}{unit}"
    return f"{value:.4g}" if abs(value) >= 1e-9 else "0"


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's ρ; NaN for fewer than three pairs or a constant side."""
    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return float("nan")
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic)
