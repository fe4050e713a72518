"""Maps smoothed over time: time constants before and after a frame, against human fixations.

    python benchmarks/smoothing.py GAZE [--clips 021,BasketballDrive,Cactus,Couple,Lee,Traffic] [--weights compact]

Each clip is predicted once without smoothing; what the finish would make of the maps is then computed for several
settings. CC / SIM / NSS on every fifth frame that at least five people look at, means over frames, then clips. With
``--weights OUT/NAME-FOLD.safetensors`` each clip has the network of ``cross_validation.py`` that has not seen it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import cv2
import numpy as np
from cross_validation import folds_of
from gaze_clips import HELD_OUT, clips_of, parser_of
from speakers import metrics, truth_of

from diffsal.config import Finish
from diffsal.data.databases import gaze
from diffsal.media.source import open_source
from diffsal.prediction.finish import smoothing_of
from diffsal.prediction.maps import interpolate, smooth
from diffsal.prediction.pipeline import predict, usual_every
from diffsal.runtime.loading import load_engine

SETTINGS = [(0.0, 0.0), *product((0.1, 0.15, 0.2, 0.3), (0.0, 0.1, 0.2))]  # seconds before and after
HEIGHT = 224  # of the maps that are scored
SCORED_EVERY = 5


def main() -> None:
    options = parser_of(__doc__, "", ",".join(HELD_OUT)).parse_args()
    folds = {scene: fold for fold, scenes in enumerate(folds_of(options.gaze)) for scene in scenes}
    scores: dict[str, np.ndarray] = {}
    for video, table in clips_of(options.gaze, options.clips):
        clip, source = gaze.read_clip(video, table), open_source(video)
        engine = load_engine(options.weights.replace("FOLD", str(folds[clip.scene])))
        engine.finish = replace(engine.finish, past_seconds=0.0, future_seconds=0.0)
        every = usual_every(engine, source)
        maps = [replace(m, frame=SimpleNamespace(index=m.frame.index, seconds=m.frame.seconds), maps=shrunk(m.maps))
                for m in predict(engine, source).maps]
        size = (round(HEIGHT * source.width / source.height), HEIGHT)
        wanted = [m.frame for m in maps[::SCORED_EVERY]]
        truths = [truth_of(clip, SimpleNamespace(seconds=f.seconds, image=np.empty((*size[::-1], 1)))) for f in wanted]
        rows = []
        for past, future in SETTINGS:
            smoothing = smoothing_of(Finish(past_seconds=past, future_seconds=future), source.frame_rate, every)
            found = interpolate(smooth(maps[::every], smoothing), deque(wanted))
            rows.append(np.mean([metrics(cv2.resize(m.maps[0], size), *truth)
                                 for m, truth in zip(found, truths, strict=True) if truth is not None], axis=0))
        scores[f"{video.parent.name} {video.stem}"] = np.array(rows)
        print(f"{video.parent.name} {video.stem}: CC {' '.join(f'{row[0]:.3f}' for row in rows)}", flush=True)
    sets = sorted({name.split()[0] for name in scores})
    print(f"\n| before, after (s) | {' | '.join(sets)} | clips whose CC gains |\n|{'---|' * (len(sets) + 2)}")
    for i, (past, future) in enumerate(SETTINGS):
        means = [np.mean([s[i] for name, s in scores.items() if name.split()[0] == one], axis=0) for one in sets]
        cells = [" / ".join(f"{v:.3f}" for v in mean) for mean in means]
        gain = sum(bool(s[i, 0] > s[0, 0]) for s in scores.values())
        print(f"| {past:g}, {future:g} | {' | '.join(cells)} | {gain} of {len(scores)} |")


def shrunk(maps: np.ndarray) -> np.ndarray:
    """At the stride at which the network draws them, 4."""
    return np.stack([cv2.resize(m, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for m in maps])


if __name__ == "__main__":
    main()
