"""Is an encoder of 8-bit integers faster on this processor, and what does it lose? The bundled network's against float.

    python benchmarks/quantise.py GAZE [--pictures 60] [--repeats 30]

``GAZE`` is a folder of the gaze layout. ONNX Runtime quantises the encoder of single frames statically (QDQ, per
channel, MinMax), calibrated on pictures of ``images/osie``, which are trained on. Printed: milliseconds of processor
time a frame on one thread, the two taken in turn and the best of each; sizes; and how far the features of other
pictures (``images/mit1003``) move, as correlation by scale.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from realtime import machine

from diffsal.media.pictures import read_picture
from diffsal.runtime.graphs import Graphs, read_graphs
from diffsal.weights.catalogue import find


class Pictures(CalibrationDataReader):
    """Pictures of a folder at the network's size, one at a time."""

    def __init__(self, folder: Path, count: int, graphs: Graphs) -> None:
        self.images = iter(at_size(folder, count, graphs))

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.images, None)
        return None if image is None else {"images": image}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gaze", type=Path)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    graphs = read_graphs(find("compact", graphs=True))
    with tempfile.TemporaryDirectory() as name:
        given, ready, small = (Path(name) / f"{x}.onnx" for x in ("given", "ready", "int8"))
        given.write_bytes(graphs.parts["frames"])
        quant_pre_process(str(given), str(ready))
        quantize_static(
            str(ready), str(small), Pictures(options.gaze / "images/osie", options.pictures, graphs),
            quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, op_types_to_quantize=["Conv"])
        sessions = {"float": session(given), "int8": session(small)}
        sizes = {"float": given.stat().st_size, "int8": small.stat().st_size}
    images = at_size(options.gaze / "images/mit1003", 12, graphs)
    best = dict.fromkeys(sessions, float("inf"))
    for i in range(options.repeats):
        for which, one in sessions.items():
            began = time.thread_time()
            one.run(None, {"images": images[i % len(images)]})
            best[which] = min(best[which], 1e3 * (time.thread_time() - began))
    for which in sessions:
        print(f"{which:6} {best[which]:6.2f} ms a frame; {sizes[which] / 1e6:.1f} MB")
    for scale in range(3):
        found = [np.corrcoef(*(one.run(None, {"images": x})[scale].ravel() for one in sessions.values()))[0, 1]
                 for x in images]
        print(f"scale {scale}: correlation with float {np.mean(found):.4f}, least {min(found):.4f}")
    print(f"{machine()}; {date.today()}")


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def at_size(folder: Path, count: int, graphs: Graphs) -> list[np.ndarray]:
    """Up to ``count`` pictures, evenly spread by name, uint8 (1, height, width, 3)."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    size = (graphs.config.width, graphs.config.height)
    chosen = paths[:: max(1, len(paths) // count)][:count]
    return [cv2.resize(read_picture(path), size, interpolation=cv2.INTER_AREA)[None] for path in chosen]


if __name__ == "__main__":
    main()
