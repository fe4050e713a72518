"""Where one shot ends and the next begins: sudden changes of the picture, found while a video streams by."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import cv2
import numpy as np

SMALL = (32, 18)  # width and height at which pictures are compared: small, so that motion changes little
NEIGHBOURS = 2  # frames on either side whose changes a cut must exceed
LEAST_CHANGE = 10.0  # mean absolute difference, in grey levels of 255, over the three channels
LEAST_RATIO = 2.5  # of a cut's change to the mean change around it
SHORTEST_SHOT_FRAMES = 5


class CutDetector:
    """Finds hard cuts. Give it every frame in order (:meth:`add`), then :meth:`close`; ``cuts`` holds what it found.

    A frame begins a shot where it differs from the frame before by at least ``LEAST_CHANGE`` levels, by at least
    ``LEAST_RATIO`` times the changes around it, and where the pictures after it stay unlike those before: a flash
    comes back, a cut does not. Dissolves and fades are not cuts. After PySceneDetect's adaptive detector.
    """

    def __init__(self) -> None:
        self.cuts: list[int] = []  # position of the first frame of each shot but the first
        self._count = 0
        self._window: deque[np.ndarray] = deque(maxlen=2 * NEIGHBOURS + 2)  # the frame in question has index 3 of 6

    def add(self, image: np.ndarray) -> None:
        """uint8 RGB (height, width, 3), the next frame."""
        small = cv2.resize(image, SMALL, interpolation=cv2.INTER_AREA)
        self._add(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb).astype(np.float32))

    def _add(self, small: np.ndarray) -> None:
        if not self._window:
            self._window.extend([small] * (NEIGHBOURS + 1))  # the first picture stood still before it began
        self._window.append(small)
        self._count += 1
        self._look(self._count - 1 - NEIGHBOURS)

    def close(self) -> list[int]:
        """No frame comes any more: look at the last ones. Returns ``cuts``."""
        for _ in range(NEIGHBOURS if self._window else 0):
            self._window.append(self._window[-1])
            self._count += 1
            self._look(self._count - 1 - NEIGHBOURS)
        return self.cuts

    def _look(self, position: int) -> None:
        """Is there a cut before the frame at ``position``, of which the window holds two frames more on either side?"""
        if position < 1 or len(self._window) < 2 * NEIGHBOURS + 2:
            return
        frames = list(self._window)
        changes = [_difference(a, b) for a, b in pairwise(frames)]
        middle = NEIGHBOURS
        change = changes.pop(middle)
        around = max(sum(changes) / len(changes), 1.0)
        stays = min(
            _difference(frames[middle - 1], frames[middle + 1]),
            _difference(frames[middle], frames[middle + 2]),
            _difference(frames[middle - 1], frames[middle + 2]),
        )
        last = self.cuts[-1] if self.cuts else 0
        if (
            change >= LEAST_CHANGE
            and change >= LEAST_RATIO * around
            and stays >= 0.6 * change
            and position - last >= (SHORTEST_SHOT_FRAMES if self.cuts else 1)
        ):
            self.cuts.append(position)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())
