"""Do a network's samples differ where people differ? Spread among samples against spread among observers.

    python benchmarks/uncertainty.py GAZE --clips find/021 hevc/Cactus --seconds 0 6 --samples 4 --steps 1 4

Every fifth frame on which at least five observers fixate. Where: on each frame, Pearson's correlation over pixels
between the samples' standard deviation and that of the observers' map when observers are drawn again with replacement;
beside it the same of the mean map, which is what the spread has to beat. When: Spearman's rank correlation over frames
between the spread of the samples (over the mean of the map) and the observers' mean distance from each other; beside
it that of the map's entropy. Prints a line per clip and a table over all; whatever comes out is the result.
"""

from __future__ import annotations

import argparse
import time
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch

from diffsal.data.databases.gaze import read_clip, saliency_map
from diffsal.figures.charts import rank_correlation
from diffsal.media.source import open_source
from diffsal.outputs.attention import GRID, entropy_bits
from diffsal.prediction.pipeline import predict
from diffsal.weights.files import load

FRAME_STEP, MIN_OBSERVERS, RESAMPLES = 5, 5, 50


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x.ravel(), y.ravel())[0, 1]) if x.std() and y.std() else float("nan")


def observers_spread(rows: np.ndarray, aspect: float, rng: np.random.Generator) -> np.ndarray:
    """The standard deviation over resamples of the observers, on the grid; each resample's map sums to 1."""
    one_by_one = np.stack([saliency_map(row[None], *GRID, aspect) for row in rows])
    one_by_one /= one_by_one.sum((1, 2), keepdims=True)
    weights = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), RESAMPLES) / len(rows)
    return np.tensordot(weights, one_by_one, 1).std(0)


def distance(rows: np.ndarray, aspect: float) -> float:
    """The observers' mean distance from each other, as a fraction of the picture's width."""
    points = rows[:, 3:5] * [1, 1 / aspect]
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    return float(apart.sum() / (len(rows) * (len(rows) - 1)))


def on_grid(values: np.ndarray) -> np.ndarray:
    return cv2.resize(values, GRID[::-1], interpolation=cv2.INTER_AREA).astype(np.float64)


def measure(model, root: Path, name: str, seconds: list[float], steps: int, samples: int) -> np.ndarray:
    """A row per frame: where (spread, mean map), when (spread, entropy, observers' distance)."""
    source = open_source(root / "videos" / f"{name}.mp4")
    clip = read_clip(root / "videos" / f"{name}.mp4", root / "gaze" / f"{name}.csv")
    rng, found = np.random.default_rng(0), []
    every_fifth = range(0, 10**9, FRAME_STEP)
    for prediction in predict(model, source, steps=steps, samples=samples, start=seconds[0], end=seconds[1],
                              indices=every_fifth):
        rows = clip.on_frame(prediction.seconds)
        if len(rows) < MIN_OBSERVERS:
            continue
        aspect = source.width / source.height
        humans = observers_spread(rows, aspect, rng)
        spread, mean = on_grid(prediction.spread), on_grid(prediction.saliency)
        found.append((correlation(spread, humans), correlation(mean, humans), spread.mean() / mean.mean(),
                      entropy_bits(prediction.saliency), distance(rows, aspect)))
    return np.array(found).reshape(-1, 5)


def tell(what: str, rows: np.ndarray) -> None:
    when = [rank_correlation(list(rows[:, i]), list(rows[:, 4])) for i in (2, 3)]
    where = f"where: spread {rows[:, 0].mean():+.3f}, mean map {rows[:, 1].mean():+.3f}"
    print(f"{what:28} {len(rows):4d} frames  spread/mean {rows[:, 2].mean():.3f}  {where}  "
          f"when: spread {when[0]:+.3f}, entropy {when[1]:+.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--clips", nargs="+", required=True, help="SET/CLIP")
    parser.add_argument("--seconds", nargs=2, type=float, default=[0.0, 1e9])
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--weights", default="compact")
    options = parser.parse_args()
    model, began = load(options.weights), time.perf_counter()
    print(f"{date.today()}, {options.weights}, {options.samples} samples, {torch.get_num_threads()} threads")
    for steps in options.steps:
        every = []
        for name in options.clips:
            every.append(measure(model, options.root, name, options.seconds, steps, options.samples))
            tell(f"{steps} step(s) {name}", every[-1])
        tell(f"{steps} step(s), all clips", np.concatenate(every))
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
