"""Whose face speaks: gains and controls over clips with sound, against human fixations.

    python benchmarks/speakers.py GAZE [--clips 011,021,022,025] [--weights compact | CLIP=WEIGHTS …]

For every fifth frame that at least five observers look at, the map is finished in several ways (no prior of sound, the
sound prior, speakers at several gains and widths, both) under the clip's own sound and under controls: another moment's
sound, another clip's, and the picture half a second late. CC / SIM / NSS at the clip's size, mean over frames, then
clips. With CLIP=WEIGHTS each clip has its own network: those of ``cross_validation.py``, which have not seen it.
"""

from __future__ import annotations

import argparse
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffsal.config import SamplingConfig
from diffsal.data.databases import gaze
from diffsal.media.mel import Sound
from diffsal.media.source import open_source
from diffsal.media.threads import prefetch
from diffsal.prediction.hearing import Heard
from diffsal.prediction.maps import FinishedMaps
from diffsal.prediction.pipeline import Stream, queue_size, sound_for
from diffsal.prediction.plan import Plan
from diffsal.prediction.speakers import speaking_map
from diffsal.runtime.engine import as_engine
from diffsal.weights.files import load

SETTINGS = {  # gains of the finish, and how wide a face's Gaussian is
    "no prior of sound": ({"sound_gain": 0.0, "speaker_gain": 0.0}, 0.5),
    "sound prior 3": ({"sound_gain": 3.0, "speaker_gain": 0.0}, 0.5),
    **{f"speakers {gain:g}, spread {spread:g}": ({"sound_gain": 0.0, "speaker_gain": gain}, spread)
       for spread in (0.5, 0.75, 1.0) for gain in (0.5, 1.0, 1.5, 2.0)},
    **{f"speakers {gain:g}, spread {spread:g}, sound prior 3": ({"sound_gain": 3.0, "speaker_gain": gain}, spread)
       for spread in (0.5, 0.75, 1.0) for gain in (1.0, 1.5)},
}
SOUNDS = ("own", "another moment's", "another clip's", "picture 0.5 s late", "muted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", default="011,021,022,025")
    parser.add_argument("--weights", nargs="+", default=["compact"])
    options = parser.parse_args()
    names = options.clips.split(",")
    given = dict(one.split("=", 1) for one in options.weights if "=" in one)
    scores: dict[tuple[str, str], list[np.ndarray]] = {}
    videos = {name: options.data / "videos" / "find" / f"{name}.mp4" for name in names}
    for i, name in enumerate(names):
        engine = as_engine(load(given[name] if given else options.weights[0]))
        engine.finish = replace(engine.finish, sound_gain=3.0, speaker_gain=1.0)
        clip = gaze.read_clip(videos[name], options.data / "gaze" / "find" / f"{name}.csv")
        found = score_clip(engine, clip, sound_for(engine, open_source(videos[names[i - 1]])))
        for key, rows in found.items():
            scores.setdefault(key, []).append(np.mean(rows, axis=0))
            print(f"{name}  {key[1]:42s} {key[0]:20s} {' / '.join(f'{v:.3f}' for v in scores[key][-1])}", flush=True)
    print(f"\n| finish | {' | '.join(SOUNDS)} |\n|{'---|' * (len(SOUNDS) + 1)}")
    for setting in SETTINGS:
        cells = [" / ".join(f"{v:.3f}" for v in np.mean(scores[sound, setting], axis=0)) for sound in SOUNDS]
        print(f"| {setting} | {' | '.join(cells)} |")


def score_clip(engine, clip, other: Sound) -> dict[tuple[str, str], list[list[float]]]:
    """CC, SIM and NSS of each scored frame under each sound and setting."""
    source = open_source(clip.path)
    own = sound_for(engine, source)
    half, late = len(own.waveform) // 2, round(0.5 * own.rate)
    sounds = [own, replace(own, waveform=np.roll(own.waveform, -half)),
              replace(own, waveform=np.resize(other.waveform, len(own.waveform))),
              replace(own, waveform=np.roll(own.waveform, -late))]
    wanted = range(0, 100_000, 5)
    stream = Stream(engine, source, Plan(engine.config.num_frames, 1, 1, None, None, None, None, wanted), sounds, 1)
    read = prefetch(stream.read(), queue_size(source))
    rows: dict[tuple[str, str], list[list[float]]] = {}
    sampling = SamplingConfig()
    with engine.workers(1) as pool:
        for window in stream.windows(stream.encode(read, pool), deque()):
            truth = truth_of(clip, window.frame)
            if truth is None:
                continue
            for sound, heard in zip(SOUNDS, (*window.heard, Heard()), strict=True):
                raw = stream.draw([window], sampling, heard=[heard])[0]
                scored = [face for face in heard.faces if face.speaking is not None]
                for setting, (gains, spread) in SETTINGS.items():
                    engine.finish = replace(engine.finish, **gains)
                    speaker = speaking_map(scored, *window.frame.size, spread) if scored else None
                    maps = stream.finished(window, raw, heard._replace(speaker=speaker))
                    saliency = stream.enlarged(FinishedMaps(window.frame, maps)).prediction().saliency
                    rows.setdefault((sound, setting), []).append(metrics(saliency, *truth))
            engine.finish = replace(engine.finish, sound_gain=3.0, speaker_gain=1.0)
    return rows


def truth_of(clip, frame) -> tuple[np.ndarray, np.ndarray] | None:
    """Map and fixation counts of a frame, as the gaze pack's own scorer draws them; None with fewer than five."""
    import cv2

    height, width = frame.image.shape[:2]
    found = clip.on_frame(frame.seconds)
    x, y = (found[:, 3] * width).astype(int), (found[:, 4] * height).astype(int)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if inside.sum() < 5:
        return None
    counts = np.zeros((height, width), np.float32)
    np.add.at(counts, (y[inside], x[inside]), 1)
    return cv2.GaussianBlur(counts, (0, 0), 0.025 * width), counts


def metrics(p: np.ndarray, g: np.ndarray, counts: np.ndarray) -> list[float]:
    cc = np.corrcoef(p.ravel(), g.ravel())[0, 1]
    a, b = ((m - m.min()) / (m - m.min()).sum() for m in (p.astype(float), g.astype(float)))
    z = (p - p.mean()) / p.std(ddof=1)
    return [float(cc), float(np.minimum(a, b).sum()), float(z[counts > 0].mean())]


if __name__ == "__main__":
    main()
