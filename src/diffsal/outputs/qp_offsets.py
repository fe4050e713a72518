"""How much each block of a picture matters, as offsets of an encoder's quantiser; and ``predict --qp-map``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from diffsal.errors import InputError
from diffsal.files import TextWriter

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from diffsal.prediction.maps import Prediction

BLOCKS = (8, 16, 32, 64)  # pixels: 16 is H.264's macroblock, 64 the largest block of H.265 and of SVT-AV1's map
EVEN_PART = 0.25  # of the weight that is spread evenly: attention is not certain
QP_PER_OCTAVE = 3.0  # offset by which distortion that weighs twice as much is worth halving: D grows with 2^(QP / 3)
STRENGTH = 8.0  # largest offset either way


def check_settings(block: int, strength: float) -> None:
    """:class:`InputError` for a block or a strength that cannot be."""
    if block not in BLOCKS:
        raise InputError(f"block is {block}, expected one of {', '.join(map(str, BLOCKS))} pixels")
    if not 0 < strength <= 25:
        raise InputError(f"strength is {strength}, expected more than 0 and at most 25 QP")


def qp_offsets(
    saliency: Float[np.ndarray, "h w"], block: int = 16, strength: float = STRENGTH, even: float = EVEN_PART
) -> Float[np.ndarray, "rows columns"]:
    """A QP offset for each block of ``block`` pixels, of those at the edges as much as lies in the picture.

    A block's weight w is its mean attention over that of the whole picture, ``even`` of it spread evenly. Weighted
    distortion is least at a given rate where w · dD/dR is the same everywhere, so the offset is -3 log2 w, at most
    ``strength`` either way. A map that is 0 throughout gives 0.
    """
    height, width = saliency.shape
    rows, columns = -(-height // block), -(-width // block)
    sums = cv2.integral(np.ascontiguousarray(saliency, np.float32), sdepth=cv2.CV_64F)
    down = np.minimum(np.arange(rows + 1) * block, height)
    across = np.minimum(np.arange(columns + 1) * block, width)
    totals = np.diff(np.diff(sums[np.ix_(down, across)], axis=0), axis=1)
    areas = np.diff(down)[:, None] * np.diff(across)[None]
    mean = sums[-1, -1] / (height * width)
    if mean <= 0:
        return np.zeros((rows, columns))
    weights = (1 - even) * (totals / areas) / mean + even
    return np.clip(-QP_PER_OCTAVE * np.log2(weights), -strength, strength)


def whole_offsets(
    saliency: Float[np.ndarray, "h w"], block: int = 16, strength: float = STRENGTH
) -> Int[np.ndarray, "rows columns"]:
    """:func:`qp_offsets`, rounded to whole QP, int8."""
    return np.rint(qp_offsets(saliency, block, strength)).astype(np.int8)


class OffsetTable(TextWriter):
    """One ``.csv`` of all frames: ``frame,seconds,row`` and then an offset for each block of that row, from the left.

    The first line names the columns. The file appears when it is whole.
    """

    def __init__(self, place: Path) -> None:
        super().__init__(place, newline="")
        self.rows = csv.writer(self.file, lineterminator="\n")
        self.is_empty = True

    def add(self, index: int, seconds: float, offsets: Int[np.ndarray, "rows columns"]) -> None:
        """The next frame."""
        if self.is_empty:
            self.rows.writerow(["frame", "seconds", "row", *(f"block{k}" for k in range(offsets.shape[1]))])
            self.is_empty = False
        when = f"{seconds:.6g}"
        self.rows.writerows([index, when, row, *line] for row, line in enumerate(offsets.tolist()))


class PredictedOffsets(OffsetTable):
    """``diffsal predict --qp-map``: offsets of blocks of 16 pixels."""

    def write(self, prediction: Prediction, image: np.ndarray | None = None) -> None:
        self.add(prediction.index, prediction.seconds, whole_offsets(prediction.saliency))
