"""Fixations to pixels and maps: the one drawer of ground truth, for training, evaluation, preparation and figures.

A fixation outside the picture, or at no place (NaN), is left out by every function here; :func:`inside` says which are
kept, so that a caller can count the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from diffsal.errors import InputError

SIGMA_FRACTION = 0.025  # of the width: the blur where no database publishes another


@dataclass(frozen=True)
class Sigma:
    """The blur that makes a map of fixations: ``px`` of the picture, ``deg`` of visual angle, ``w`` times its width."""

    value: float
    unit: str

    def __post_init__(self) -> None:
        if self.unit not in ("px", "deg", "w") or not 0 < self.value < np.inf:
            raise InputError(f"sigma {self.value}{self.unit}: expected a number above 0 and px, deg or w: 12.74px, "
                             "1deg, 0.025w (of the width)")

    @classmethod
    def parse(cls, text: str) -> Sigma:
        """``12.74px``, ``1deg`` or ``0.025w``; :class:`InputError` for anything else."""
        number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
        try:
            return cls(float(number), text[len(number) :])
        except ValueError:
            raise InputError(f"sigma {text!r}: expected such as 12.74px, 1deg or 0.025w (of the width)") from None

    def fraction(self, width: int, degrees_wide: float | None = None) -> float:
        """As a fraction of a picture's width, which is ``width`` pixels or ``degrees_wide``."""
        if self.unit == "deg" and degrees_wide is None:
            raise InputError(f"sigma {self.value}deg: needs --pixels-per-degree, or a sigma in px or w")
        return {"px": self.value / width, "w": self.value, "deg": self.value / (degrees_wide or 1)}[self.unit]


def inside(places: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Which places (x, y as fractions of width and height) lie on the picture, its edges included."""
    return np.asarray(((places >= 0) & (places <= 1)).all(1))


def to_pixels(places: Float[np.ndarray, "n 2"], height: int, width: int) -> Int[np.ndarray, "m 2"]:
    """Column and row of every place on the picture; x = 1 and y = 1 belong to the last pixel."""
    size = np.array([width, height])
    return np.minimum(places[inside(places)] * size, size - 1).astype(np.int64)


def count_fixations(
    points: Int[np.ndarray, "n 2"] | Float[np.ndarray, "n 2"], height: int, width: int
) -> Int[np.ndarray, "{height} {width}"]:
    """How often each pixel was fixated; ``points`` are (column, row)."""
    points = np.asarray(points).reshape(-1, 2)
    kept = ((points >= 0) & (points < (width, height))).all(1)  # NaN is in no picture
    columns, rows = points[kept].astype(np.int64).T
    counts = np.zeros((height, width), np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts


def blur(counts: Shaped[np.ndarray, "h w"], sigma_pixels: float) -> Float[np.ndarray, "h w"]:
    """Fixated pixels as a density: a Gaussian for each fixation, mirrored at the edges; float64, not scaled."""
    return cv2.GaussianBlur(counts.astype(np.float64), (0, 0), sigma_pixels)


def blur_to_bytes(counts: Shaped[np.ndarray, "h w"], sigma_pixels: float) -> Shaped[np.ndarray, "h w"]:
    """:func:`blur` as uint8, 255 where it is highest; 0 without fixations."""
    density = blur(counts, sigma_pixels)
    return np.rint(density * (255 / density.max()) if density.max() > 0 else density).astype(np.uint8)


def draw_map(
    places: Float[np.ndarray, "n 2"], height: int, width: int, aspect: float | None = None,
    sigma: float = SIGMA_FRACTION, weights: Float[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, "{height} {width}"]:
    """Places (fractions) blurred with ``sigma`` (of the width) and scaled to a maximum of 1: float32, 0 without any.

    ``aspect`` is the picture's own width over height (default: the grid's): σ is round on the picture, not on a
    stretched grid.
    """
    kept = inside(places)
    places, weights = places[kept], None if weights is None else weights[kept]
    if not len(places):
        return np.zeros((height, width), np.float32)
    columns = _bumps(places[:, 0], width, sigma * width)
    rows = _bumps(places[:, 1], height, sigma * (width / height if aspect is None else aspect) * height)
    rows = rows if weights is None else rows * weights[:, None].astype(np.float32)
    grid = rows.T @ columns  # a Gaussian is a column times a row: a sum over fixations, not a filter over pixels
    return grid / grid.max()


def _bumps(fractions: np.ndarray, size: int, sigma: float) -> Float[np.ndarray, "n {size}"]:
    """One Gaussian along ``size`` pixels for each fixation, mirrored at the ends as a filter would."""
    deltas = np.zeros((len(fractions), size), np.float32)
    deltas[np.arange(len(fractions)), np.minimum(fractions * size, size - 1).astype(int)] = 1
    return cv2.GaussianBlur(deltas, (round(8 * sigma + 1) | 1, 1), sigma)
