"""``predict --sheet``: a few frames of a video above their overlays, in one picture."""

from __future__ import annotations

import cv2
import numpy as np

SHEET_FRAMES = 6
SHEET_WIDTH = 320


def contact_sheet(shown: list[tuple]) -> np.ndarray:
    """(seconds, picture, overlay, …) of some frames → one RGB picture: frames above, overlays below, times written."""
    columns = []
    for seconds, image, *overlays in shown:
        height = max(1, round(SHEET_WIDTH * image.shape[0] / image.shape[1]))
        cells = [cv2.resize(x, (SHEET_WIDTH, height), interpolation=cv2.INTER_AREA) for x in (image, *overlays)]
        label = np.full((28, SHEET_WIDTH, 3), 255, np.uint8)
        cv2.putText(label, f"{seconds:.2f} s", (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
        columns.append(np.pad(np.concatenate([label, *cells]), ((0, 4), (2, 2), (0, 0)), constant_values=255))
    tallest = max(c.shape[0] for c in columns)
    return np.concatenate(
        [np.pad(c, ((0, tallest - c.shape[0]), (0, 0), (0, 0)), constant_values=255) for c in columns], axis=1
    )
