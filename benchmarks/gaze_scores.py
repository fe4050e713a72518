"""Scores of the compact weights on clips of the gaze layout, with sound, muted, and with another moment's sound.

    python benchmarks/gaze_scores.py GAZE find hevc [--clips 021,022] [--weights NAME] [--sound own muted other]

Every fifth frame on which at least five observers fixate; ground truth blurred with σ = 0.025 of the width; CC, SIM
and AUC-J as the MIT benchmark defines them, NSS on every fixated pixel; mean over frames, then over clips; the
centre prior beside it on the same frames. Prints a table and the frames per second of the prediction.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch

from diffsal import prediction, soundtrack
from diffsal.data.gaze import read_set
from diffsal.media import open_source
from diffsal.metrics import auc_judd, cc, sim
from diffsal.weights import load

FRAME_STEP, MIN_OBSERVERS, SIGMA = 5, 5, 0.025
OTHER_MOMENT_SECONDS = 5.0  # how far the control's sound is moved


def score(p: np.ndarray, points: np.ndarray) -> list[float]:
    """CC, SIM, NSS, AUC-J of one map against fixated pixels (n, 2), (x, y)."""
    h, w = p.shape
    counts = np.zeros((h, w))
    np.add.at(counts, (points[:, 1], points[:, 0]), 1)
    truth = torch.from_numpy(cv2.GaussianBlur(counts, (0, 0), SIGMA * w))
    saliency, fixated = torch.from_numpy(p).double(), torch.from_numpy(counts > 0)
    # as the gaze pack's own script: each fixated pixel once
    z = (saliency - saliency.mean()) / saliency.std()
    return [cc(saliency, truth).item(), sim(saliency, truth).item(), z[fixated].mean().item(),
            auc_judd(saliency, fixated).item()]


def centre(h: int, w: int) -> np.ndarray:
    y, x = np.mgrid[0:h, 0:w]
    return np.exp(-(((x - w / 2) / (w / 5)) ** 2 + ((y - h / 2) / (h / 5)) ** 2) / 2)


def clip_scores(model, clip, steps: int, sound: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Means over frames of the model and of the centre prior, and the number of frames."""
    source, ours, prior = open_source(str(clip.path)), [], []
    for frame in prediction.predict(model, source, steps=steps, mute=sound == "muted"):
        fixations = clip.on_frame(frame.seconds)
        if frame.index % FRAME_STEP or len(fixations) < MIN_OBSERVERS:
            continue
        h, w = frame.saliency.shape
        points = np.c_[np.minimum(fixations[:, 3] * w, w - 1), np.minimum(fixations[:, 4] * h, h - 1)].astype(int)
        ours.append(score(frame.saliency, points))
        prior.append(score(centre(h, w), points))
    return np.mean(ours, 0), np.mean(prior, 0), source.num_frames or 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--clips", default="")
    parser.add_argument("--weights", default="compact")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--sound", nargs="+", choices=("own", "muted", "other"), default=["own"])
    options = parser.parse_args()
    model, wanted = load(options.weights), set(filter(None, options.clips.split(",")))
    print(f"{date.today()}, {torch.get_num_threads()} threads, {options.weights}, {options.steps} step(s)")
    read = soundtrack.read_sound
    for sound in options.sound:
        if sound == "other":  # the control: the same track, moved on the video's clock
            def moved(*arguments, **keywords):
                own = read(*arguments, **keywords)
                return own and replace(own, start_seconds=own.start_seconds + OTHER_MOMENT_SECONDS)

            import diffsal.media
            diffsal.media.read_sound = moved
        for name in options.sets:
            rows, frames, start = [], 0, time.perf_counter()
            for clip in read_set(options.root, name):
                if wanted and clip.name not in wanted:
                    continue
                ours, prior, count = clip_scores(model, clip, options.steps, sound)
                frames += count
                rows.append((ours, prior))
                print(f"{sound:6} {name:5} {clip.name:20}" + "".join(f" {v:6.3f}" for v in (*ours, *prior)), flush=True)
            if rows:
                mean = np.mean(rows, 0)
                print(f"{sound:6} {name:5} {'MEAN':20}" + "".join(f" {v:6.3f}" for v in mean.ravel())
                      + f"  {frames / (time.perf_counter() - start):.1f} frames/s with scoring", flush=True)


if __name__ == "__main__":
    main()
