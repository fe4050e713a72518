"""The full-size network on a CPU: torch against ONNX Runtime, one window, side by side in one process.

    python benchmarks/full_size.py [--threads 2] [--repeats 2] [--no-sound] [--graphs FILE.onnx]

Weights are random: time does not depend on them. The graphs are exported first, which takes minutes, unless
``--graphs`` names a file that an earlier run has left there. Both clocks are printed: on a busy machine, processor time
is the one to read.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from realtime import machine

from diffsal.config import ModelConfig, SamplingConfig
from diffsal.media.source import Frame, Source
from diffsal.networks.diffsal import DiffSal
from diffsal.prediction.hearing import Heard
from diffsal.prediction.pipeline import Stream, Window
from diffsal.prediction.plan import Plan
from diffsal.runtime.engine import Engine
from diffsal.runtime.export import export
from diffsal.runtime.onnx import OnnxEngine
from diffsal.runtime.torch import TorchEngine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--no-sound", action="store_true")
    parser.add_argument("--graphs", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = ModelConfig(audio_encoder=None if options.no_sound else "vggish")
    model = DiffSal(config).eval()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (config.num_frames, config.height, config.width, 3), np.uint8)
    mel = None if options.no_sound else rng.standard_normal((1, 9, 112, 192)).astype(np.float32)
    window = Window(Frame(0, 0.0, images[0]), list(images), None, (Heard(mel),))
    with tempfile.TemporaryDirectory() as folder:
        graphs = options.graphs or Path(folder) / "full.onnx"
        if not graphs.exists():
            export(model, graphs)
        with torch.inference_mode():
            plain = measure("torch", TorchEngine(model), window, options.repeats)
        fast = measure("onnxruntime", OnnxEngine(graphs), window, options.repeats)
    difference = float(np.abs(plain["map"] - fast["map"]).max())
    for clock in ("wall", "processor"):
        one, four = (plain[n][clock] / fast[n][clock] for n in (1, 4))
        print(f"{clock}: ONNX Runtime takes {1 / one:.2f} of torch's time for one step, {1 / four:.2f} for four")
    print(f"largest difference of the maps {difference:.1e}")
    print(f"{'video' if options.no_sound else 'video and sound'}; {machine()}; {date.today()}")


def measure(name: str, engine: Engine, window: Window, repeats: int) -> dict:
    """Seconds of both clocks for one step and four, encoding included; and the map after one step."""
    stream = Stream(engine, Source("noise"), Plan(engine.config.num_frames), [None])
    found: dict = {}
    for steps in (1, 4):
        found[steps], drawn = best(lambda n=steps: stream.draw([window], SamplingConfig(n)), repeats)
        print(f"{name}: {steps} step(s) {found[steps]['wall']:.2f} s wall, {found[steps]['processor']:.2f} s processor",
              flush=True)
        found.setdefault("map", drawn)
    return found


def best(action: Callable, repeats: int) -> tuple[dict[str, float], object]:
    """The least seconds of ``repeats`` runs after one to warm up, by both clocks, and the result."""
    result, least = action(), {"wall": float("inf"), "processor": float("inf")}
    for _ in range(repeats):
        began = time.perf_counter(), time.process_time()
        result = action()
        least["wall"] = min(least["wall"], time.perf_counter() - began[0])
        least["processor"] = min(least["processor"], time.process_time() - began[1])
    return least, result


if __name__ == "__main__":
    main()
