"""A contact sheet of the moments where attention moves most, found while a video streams by."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from diffsal.outputs.attention import moved, on_grid
from diffsal.outputs.panels import PANEL_WIDTH, Panel, figure, write_figure
from diffsal.prediction.maps import Prediction

NUM_MOMENTS = 6
WITHIN_SECONDS = 0.5  # a movement is that from the map this long before
APART_SECONDS = 2.0  # between two moments of the sheet


@dataclass(frozen=True, eq=False)
class Sight:
    """One frame as the sheet shows it, reduced: time, index, picture, heat over it, and the map on its grid."""

    seconds: float
    index: int
    image: np.ndarray
    overlay: np.ndarray
    cells: np.ndarray


@dataclass(frozen=True, eq=False)
class Moment:
    """Attention has moved by ``share`` (of all) from ``before`` to ``after``."""

    before: Sight
    after: Sight
    share: float


class MomentsWriter:
    """``--moments``: the sheet of up to six moments, in order of time. Memory stays flat: half a second is kept."""

    def __init__(self, path: Path, name: str = "") -> None:
        self.path, self.name = path, name
        self.recent: deque[Sight] = deque()
        self.found: list[Moment] = []

    def write(self, prediction: Prediction, image: np.ndarray) -> None:
        now = Sight(prediction.seconds, prediction.index, _reduced(prediction.image),
                    _reduced(image[:, : prediction.image.shape[1]]), on_grid(prediction.saliency))
        while len(self.recent) > 1 and self.recent[1].seconds <= now.seconds - WITHIN_SECONDS:
            self.recent.popleft()
        if self.recent and self.recent[0].seconds <= now.seconds - WITHIN_SECONDS:
            self._consider(Moment(self.recent[0], now, moved(self.recent[0].cells, now.cells)))
        self.recent.append(now)

    def _consider(self, moment: Moment) -> None:
        near = [m for m in self.found if abs(m.after.seconds - moment.after.seconds) < APART_SECONDS]
        if any(m.share >= moment.share for m in near):
            return
        self.found = [m for m in self.found if m not in near] + [moment]
        self.found = sorted(self.found, key=lambda m: -m.share)[:NUM_MOMENTS]

    def close(self) -> None:
        rows = [
            [
                Panel(m.before.image, f"{m.before.seconds:.2f} s", " "), Panel(m.before.overlay, " ", " "),
                Panel(m.after.image, f"{m.after.seconds:.2f} s", f"frame {m.after.index}"),
                Panel(m.after.overlay, " ", f"{m.share:.0%} of attention has moved"),
            ]
            for m in sorted(self.found, key=lambda m: m.after.seconds)
        ]
        note = (f"The {len(rows)} moments where attention moves most within {WITHIN_SECONDS} s, "
                f"at least {APART_SECONDS:g} s apart.")
        if not rows:
            rows, note = [[Panel(s.image), Panel(s.overlay)] for s in self.recent][-1:], "Too short for a movement."
        write_figure(self.path, figure(rows, self.name, [note]))

    def discard(self) -> None:
        """Nothing is left to do: the sheet is written in one go."""


def _reduced(image: np.ndarray) -> np.ndarray:
    height = max(1, round(PANEL_WIDTH * image.shape[0] / image.shape[1]))
    return cv2.resize(image, (PANEL_WIDTH, height), interpolation=cv2.INTER_AREA)
