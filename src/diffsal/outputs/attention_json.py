"""``predict --json``: where attention is in every frame, as numbers. The schema stands in docs/json.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from diffsal.files import TextWriter
from diffsal.media.source import Source
from diffsal.outputs.attention import Region, entropy_bits, moved, on_grid, peaks
from diffsal.prediction.maps import Prediction
from diffsal.prediction.speakers import SpeakingFace

SCHEMA, VERSION = "diffsal.attention", 1
DIGITS = 5  # of fractions


class AttentionWriter(TextWriter):
    """One JSON document, a line for each frame, whole or not at all. Memory stays flat."""

    def __init__(self, path: Path, source: Source, settings: dict, regions: Sequence[Region] = ()) -> None:
        super().__init__(path)
        self.regions = tuple(regions)
        self.count = 0
        self.before: np.ndarray | None = None
        self.head = {
            "schema": SCHEMA, "version": VERSION, "source": Path(source.name).name, "width": source.width,
            "height": source.height, "frame_rate": source.frame_rate, "settings": settings,
            "regions": [{"name": r.name, "box": r.box} for r in regions],
        }

    def write(self, prediction: Prediction, image: np.ndarray | None = None) -> None:
        saliency, spread, cells = prediction.saliency, prediction.spread, on_grid(prediction.saliency)
        frame = {
            "index": prediction.index, "seconds": round(prediction.seconds, 6),
            "peaks": [{k: round(v, DIGITS) for k, v in asdict(p).items()} for p in peaks(saliency)],
            "entropy_bits": round(entropy_bits(saliency), 4),
            "spread": None if spread is None else round(float(spread.mean() / max(saliency.mean(), 1e-12)), DIGITS),
            "moved": None if self.before is None else round(moved(self.before, cells), DIGITS),
            "regions": {r.name: round(r.share(saliency), DIGITS) for r in self.regions},
            "faces": [_face(face, saliency.shape) for face in prediction.faces],
        }
        if not self.count:
            self.file.write(json.dumps(self.head, ensure_ascii=False)[:-1] + ', "frames": [\n')
        self.file.write((",\n" if self.count else "") + json.dumps(frame, ensure_ascii=False))
        self.count, self.before = self.count + 1, cells

    def close(self) -> None:
        self.file.write("\n]}\n")
        super().close()


def _face(face: SpeakingFace, size: tuple[int, ...]) -> dict:
    """A face as fractions of the picture."""
    height, width = size[:2]
    box = (face.left / width, face.top / height, (face.left + face.width) / width, (face.top + face.height) / height)
    speaking = None if face.speaking is None else round(face.speaking, DIGITS)
    return {"track": face.track, "box": [round(v, DIGITS) for v in box], "confidence": round(face.confidence, DIGITS),
            "speaking": speaking}
