"""CC of the bundled network by sampling steps and samples, on a few frames of each held-out clip.

    python benchmarks/steps.py GAZE [CLIP …]

Twelve frames of a clip, evenly spread, each through the network by itself; CC with the observers' map at 112×192, on
frames that at least five people look at. One line per clip: the mean for one, two, four and eight steps and for the
mean of eight samples of four steps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from gaze_clips import HELD_OUT

from diffsal.data.databases.gaze import GazeClip, read_set, saliency_map
from diffsal.media.source import open_source
from diffsal.prediction.pipeline import predict
from diffsal.runtime.engine import Engine
from diffsal.runtime.loading import load_engine

CASES = ((1, 1), (2, 1), (4, 1), (8, 1), (4, 8))  # steps, samples
NUM_FRAMES, MIN_OBSERVERS, SIZE = 12, 5, (112, 192)


def scores(engine: Engine, clip: GazeClip) -> dict[tuple[int, int], float]:
    """The mean CC over the clip's frames for each case."""
    source, found = open_source(clip.path), {case: [] for case in CASES}
    last = (source.duration_seconds or 0) * source.frame_rate
    for place in np.linspace(0.06, 0.94, NUM_FRAMES):
        index = int(place * last) // 2 * 2
        for steps, samples in CASES:
            for p in predict(engine, clip.path, steps=steps, samples=samples, start_index=index, end_index=index + 1,
                             every=1):
                fixations = clip.on_frame(p.seconds)
                if len(fixations) >= MIN_OBSERVERS:
                    height, width = p.saliency.shape
                    people = saliency_map(fixations, *SIZE, width / height)
                    ours = cv2.resize(p.saliency, SIZE[::-1], interpolation=cv2.INTER_AREA)
                    found[steps, samples].append(float(np.corrcoef(ours.ravel(), people.ravel())[0, 1]))
    return {case: float(np.mean(values)) for case, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gaze", type=Path)
    parser.add_argument("clips", nargs="*", default=HELD_OUT)
    options = parser.parse_args()
    engine = load_engine()
    for name in ("find", "hevc"):
        for clip in read_set(options.gaze, name):
            if clip.name in options.clips:
                row = "  ".join(f"{s} steps × {n}: {cc:.3f}" for (s, n), cc in scores(engine, clip).items())
                print(f"{clip.name}: {row}", flush=True)


if __name__ == "__main__":
    main()
