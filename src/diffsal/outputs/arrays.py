"""``predict --npz``: every map, time and index as arrays in one file."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffsal.files import GrowingFile

if TYPE_CHECKING:
    from diffsal.prediction.maps import Prediction


class ArrayWriter:
    """``--npz``: ``saliency`` float16 (n, h, w), ``seconds`` float64 (n,), ``index`` int64 (n,). Memory stays flat.

    With several samples also ``spread`` float16 (n, h, w).
    """

    def __init__(self, path: Path) -> None:
        self.growing = GrowingFile(path)
        self.maps = tempfile.TemporaryFile(dir=self.growing.folder)  # noqa: SIM115  (closed by close or discard)
        self.spreads = tempfile.TemporaryFile(dir=self.growing.folder)  # noqa: SIM115
        self.seconds: list[float] = []
        self.indices: list[int] = []
        self.size = (0, 0)

    def write(self, prediction: Prediction, image: np.ndarray | None = None) -> None:
        self.size = prediction.saliency.shape
        self.maps.write(prediction.saliency.astype(np.float16).tobytes())
        if prediction.spread is not None:
            self.spreads.write(prediction.spread.astype(np.float16).tobytes())
        self.seconds.append(prediction.seconds)
        self.indices.append(prediction.index)

    def close(self) -> None:
        header = {"descr": "<f2", "fortran_order": False, "shape": (len(self.indices), *self.size)}
        with zipfile.ZipFile(self.growing.place, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, file in (("saliency", self.maps), ("spread", self.spreads)):
                if not file.tell():
                    continue
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    file.seek(0)
                    shutil.copyfileobj(file, member, 1 << 20)
            for name, values in (("seconds", np.array(self.seconds)), ("index", np.array(self.indices, np.int64))):
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, values)
        self.growing.commit()
        self.maps.close()
        self.spreads.close()

    def discard(self) -> None:
        self.maps.close()
        self.spreads.close()
        self.growing.discard()
