"""``predict --maps``: one 16-bit grey PNG per frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffsal.media.pictures import write_map

if TYPE_CHECKING:
    from diffsal.prediction.maps import Prediction


class MapWriter:
    """One 16-bit grey PNG per frame, ``folder/NNNNNN.png``; a picture's is ``folder/STEM.png``."""

    def __init__(self, folder: Path, stem: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.stem = folder, stem

    def write(self, prediction: Prediction, image: np.ndarray | None = None) -> None:
        path = self.folder / f"{self.stem or f'{prediction.index:06d}'}.png"
        write_map(path, prediction.saliency)

    def close(self) -> None:
        """Nothing is left to do: every map is whole from the moment it has its name."""

    discard = close
