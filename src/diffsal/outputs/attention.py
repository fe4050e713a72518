"""Where attention is, in numbers: peaks, entropy, movement, and its share inside regions of interest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from diffsal.errors import InputError
from diffsal.shapes import Bool, Float, Shaped

GRID = (54, 96)  # rows and columns on which entropy and movement are counted, whatever the video's size
WIDEST = 384  # pixels: peaks are looked for on maps of at most this width
LOWEST_PEAK = 0.1  # of the highest
MOST_PEAKS = 8
MOST_SUMMITS = 64  # looked at, highest first: a map of grain has thousands


@dataclass(frozen=True)
class Peak:
    """A local maximum that a valley of at most half its height parts from every higher one.

    ``x``, ``y``: its place, fractions of the picture's width and height. ``height``: the map's value there. ``width``:
    the diameter of a circle as large as the region around it where the map is at least half as high, as a fraction of
    the picture's width.
    """

    x: float
    y: float
    height: float
    width: float


def peaks(saliency: Shaped[np.ndarray, "h w"]) -> list[Peak]:
    """The map's peaks, highest first: at most eight, none lower than a tenth of the highest."""
    if saliency.shape[1] > WIDEST:
        height = max(1, round(saliency.shape[0] * WIDEST / saliency.shape[1]))
        saliency = cv2.resize(saliency, (WIDEST, height), interpolation=cv2.INTER_AREA)
    highest = float(saliency.max())
    if highest <= 0:
        return []
    summits = (saliency == cv2.dilate(saliency, np.ones((3, 3)))) & (saliency >= LOWEST_PEAK * highest)
    _, labels, _, centres = cv2.connectedComponentsWithStats(summits.astype(np.uint8))
    tops = np.zeros(len(centres))
    np.maximum.at(tops, labels, np.where(labels > 0, saliency, 0))
    order = sorted(range(1, len(centres)), key=lambda i: -tops[i])[:MOST_SUMMITS]
    found: list[Peak] = []
    higher: list[tuple[int, int]] = []
    for label in order:
        rows, columns = np.nonzero(labels == label)
        place = int(rows[0]), int(columns[0])
        _, regions = cv2.connectedComponents((saliency >= tops[label] / 2).astype(np.uint8))
        region = regions == regions[place]
        if not any(region[other] for other in higher):
            x, y = (centres[label] + 0.5) / saliency.shape[::-1]
            diameter = 2 * float(np.sqrt(region.sum() / np.pi)) / saliency.shape[1]
            found.append(Peak(float(x), float(y), float(tops[label]), diameter))
        higher.append(place)
        if len(found) == MOST_PEAKS:
            break
    return found


def on_grid(saliency: Shaped[np.ndarray, "h w"]) -> Float[np.ndarray, "54 96"]:
    """The map as a distribution over 54×96 cells, which sums to 1; even where the map is zero throughout."""
    cells = cv2.resize(saliency.astype(np.float32), GRID[::-1], interpolation=cv2.INTER_AREA).astype(np.float64)
    total = cells.sum()
    return cells / total if total > 0 else np.full(GRID, 1 / cells.size)


def entropy_bits(saliency: Shaped[np.ndarray, "h w"]) -> float:
    """Shannon's entropy over 54×96 cells: 0 where all attention is in one cell, 12.34 where it is spread evenly."""
    p = on_grid(saliency)
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum()) + 0.0


def moved(p: Float[np.ndarray, "*n"], q: Float[np.ndarray, "*n"]) -> float:
    """The share of attention that is elsewhere in ``q``: half the sum of the differences of two maps that sum to 1."""
    p, q = (x / max(float(x.sum()), 1e-12) for x in (p.astype(np.float64), q.astype(np.float64)))
    return float(np.abs(p - q).sum() / 2)


@dataclass(frozen=True, eq=False)
class Region:
    """A named region of interest: a box (left, top, right, bottom), fractions of the picture or pixels; or a mask."""

    name: str
    box: tuple[float, float, float, float] | None = None
    mask: np.ndarray | None = None

    def inside(self, height: int, width: int) -> Bool[np.ndarray, "{height} {width}"]:
        """Which pixels of a picture of this size lie in it; a pixel counts where its middle does."""
        if self.mask is not None:
            return cv2.resize(self.mask, (width, height), interpolation=cv2.INTER_NEAREST) > 0
        if self.box is None:
            raise ValueError(f"region {self.name}: neither a box nor a mask")
        left, top, right, bottom = self.box
        if max(self.box) <= 1:
            left, right, top, bottom = left * width, right * width, top * height, bottom * height
        ys, xs = np.ogrid[0:height, 0:width]
        return (xs + 0.5 >= left) & (xs + 0.5 < right) & (ys + 0.5 >= top) & (ys + 0.5 < bottom)

    def share(self, saliency: Shaped[np.ndarray, "h w"]) -> float:
        """The share of attention inside; 0 where the map is zero throughout."""
        total = float(saliency.sum(dtype=np.float64))
        return float(saliency[self.inside(*saliency.shape)].sum(dtype=np.float64)) / total if total > 0 else 0.0


def read_region(text: str) -> Region:
    """``NAME=left,top,right,bottom`` (fractions of width and height; pixels where one is above 1) or ``NAME=MASK.png``.

    Inside a mask is what is not black. Raises :class:`InputError` for anything else.
    """
    name, _, given = text.partition("=")
    if not name or not given:
        raise InputError(f"--roi {text}: expected NAME=left,top,right,bottom or NAME=MASK.png")
    parts = given.split(",")
    if len(parts) == 4:
        try:
            left, top, right, bottom = map(float, parts)
        except ValueError:
            left, right, top, bottom = 0.0, 0.0, 0.0, 0.0
        if not (0 <= left < right and 0 <= top < bottom):
            raise InputError(f"--roi {text}: expected four numbers, left < right and top < bottom")
        return Region(name, (left, top, right, bottom))
    path = Path(given)
    if not path.is_file():
        raise InputError(f"{path}: no such mask; give --roi {name}=left,top,right,bottom or a picture")
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise InputError(f"{path}: not a picture that can be decoded; give a mask that is black outside the region")
    return Region(name, mask=mask)
