"""Faces in a picture, by YuNet (Wu, Peng and Yu, 2023; ShiqiYu/libfacedetection.train, Apache-2.0)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy import ndarray

from diffsal.shapes import Float, UInt8

STRIDES = (8, 16, 32)
LONGEST_SIDE = 320  # of the picture that YuNet sees: faces of 10 pixels there are found
LEAST_CONFIDENCE = 0.6
MOST_OVERLAP = 0.3  # of two faces, as intersection over union


def graph_session(name: str) -> Any:
    """An ONNX Runtime session of a graph that the package carries, on one core."""
    import onnxruntime

    from diffsal.runtime.onnx import share_arena

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    share_arena(options)
    path = Path(str(files("diffsal") / "weights" / "pretrained" / name))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class FaceDetector:
    """Pictures → boxes. The graph is loaded with the first picture."""

    def __init__(self, longest_side: int = LONGEST_SIDE, least_confidence: float = LEAST_CONFIDENCE) -> None:
        self.longest_side, self.least_confidence = longest_side, least_confidence
        self.session: Any = None

    def detect(self, image: UInt8[ndarray, "h w 3"]) -> Float[ndarray, "faces 5"]:
        """The faces of an RGB picture: left, top, width, height in its pixels, and confidence; surest first."""
        if self.session is None:
            self.session = graph_session("yunet.onnx")
        height, width = image.shape[:2]
        scale = min(1.0, self.longest_side / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        boxes = self._boxes(np.ascontiguousarray(small[..., ::-1]))  # YuNet takes BGR
        boxes[:, :4] *= [width / size[0], height / size[1]] * 2
        return boxes

    def _boxes(self, image: UInt8[ndarray, "h w 3"]) -> Float[ndarray, "faces 5"]:
        height, width = image.shape[:2]
        step = STRIDES[-1]
        right, below = -width % step, -height % step
        padded = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT)
        values = padded.transpose(2, 0, 1)[None].astype(np.float32)
        names = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox") for stride in STRIDES]
        found = self.session.run(names, {self.session.get_inputs()[0].name: values})
        levels = [
            _level(found[i][0, :, 0], found[3 + i][0, :, 0], found[6 + i][0], stride, padded.shape[1] // stride)
            for i, stride in enumerate(STRIDES)
        ]
        boxes = np.concatenate(levels)
        boxes = boxes[boxes[:, 4] >= self.least_confidence]
        if not len(boxes):
            return np.zeros((0, 5), np.float32)
        kept = cv2.dnn.NMSBoxes(boxes[:, :4].tolist(), boxes[:, 4].tolist(), self.least_confidence, MOST_OVERLAP)
        return boxes[np.asarray(kept, int).ravel()]


def _level(
    classes: Float[ndarray, " n"], objects: Float[ndarray, " n"], boxes: Float[ndarray, "n 4"], stride: int,
    columns: int,
) -> Float[ndarray, "n 5"]:
    """YuNet's numbers at one stride → boxes: the centre's offset from its cell, the sides' logarithms, in strides."""
    cells = np.arange(len(classes))
    centres = np.stack([cells % columns, cells // columns], axis=1) + boxes[:, :2]
    sides = np.exp(boxes[:, 2:])
    confidence = np.sqrt(classes.clip(0, 1) * objects.clip(0, 1))
    return np.column_stack([(centres - sides / 2) * stride, sides * stride, confidence]).astype(np.float32)
