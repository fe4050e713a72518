"""Thumbnails and shots against people: do they look at one place on the chosen frame, and are a shot's figures theirs?

    python benchmarks/shots.py GAZE --out shots.json

GAZE is a folder in the gaze layout. People's figures are those of their fixations, at least five on a frame:
counted in the window for thumbnails, drawn as maps (sigma 0.025 of the width) for shots.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from gaze_clips import HELD_OUT, LEAST_FIXATIONS, clips_of, parser_of

import diffsal
from diffsal.data.databases.gaze import read_clip
from diffsal.data.truth import draw_map
from diffsal.decisions.shots import Seen
from diffsal.decisions.thumbnail import choose, densest_window, look_at, unfit
from diffsal.media.source import open_source
from diffsal.outputs.attention import GRID


def measure(model, video: Path, table: Path, predict=diffsal.predict) -> dict:
    """One clip: of the chosen frame how much people are in one place, and of the whole clip ours beside theirs."""
    source, clip = open_source(video), read_clip(video, table)
    ours, theirs = (Seen(source.width, source.height) for _ in range(2))
    candidates, densest = [], []
    for p in predict(model, source):
        places = clip.on_frame(p.seconds)[:, 3:5]
        places = places[((places >= 0) & (places <= 1)).all(1)]
        candidates.append(look_at(p.index, p.seconds, p.image, p.saliency))
        if len(places) < LEAST_FIXATIONS:
            densest.append((np.nan, np.nan))
            continue
        counts, _, _ = np.histogram2d(places[:, 1], places[:, 0], GRID, ((0, 1), (0, 1)))
        left, top, right, bottom = candidates[-1].window
        inside = (places >= (left, top)).all(1) & (places <= (right, bottom)).all(1)
        densest.append((densest_window(counts / counts.sum())[0], float(inside.mean())))
        people = draw_map(places, *GRID, source.width / source.height)
        ours.add(p)
        theirs.add(SimpleNamespace(index=p.index, seconds=p.seconds, image=p.image, saliency=people))
    shots = np.searchsorted(ours.cuts.cuts, np.arange(len(candidates)), side="right")
    fit = [not reasons and d[0] == d[0] for reasons, d in zip(unfit(candidates, shots), densest, strict=True)]
    best = candidates.index(choose(candidates, shots, fit, 1)[0].frame)
    known = np.array([d for d in densest if d[0] == d[0]])
    row = {"clip": video.stem, "held_out": video.stem in HELD_OUT, "chosen": densest[best][0],
           "mean": known[:, 0].mean(), "percentile": float((known[:, 0] < densest[best][0]).mean()),
           "window_chosen": densest[best][1], "window_mean": float(known[:, 1].mean())}
    for name, seen in (("ours", ours), ("people", theirs)):
        shot = seen.close("")  # figures of all shots together: clips of the pack are one shot, or nearly
        lengths = [s.last_index - s.first_index + 1 for s in shot.shots]
        for key in ("centredness", "entropy_bits", "spread"):
            row[f"{key}_{name}"] = float(np.average([getattr(s, key) for s in shot.shots], weights=lengths))
        row[f"shots_{name}"] = len(shot.shots)
    gaps = (np.array(ours.measures)[:, :2] - np.array(theirs.measures)[:, :2]) * [1, ours.tall]
    row["distance"] = float(np.linalg.norm(gaps, axis=1).mean())
    return row


def main() -> None:
    options = parser_of(__doc__, "shots.json").parse_args()
    model, rows = diffsal.load(options.weights), []
    for video, table in clips_of(options.gaze, options.clips):
        rows.append(measure(model, video, table))
        print_row(rows[-1])
        options.out.write_text(json.dumps(rows, indent=1))
    print_summary(rows)


def print_row(row: dict) -> None:
    print(f"{row['clip']:20s} people in one place: {row['chosen']:.2f} on the chosen frame, "
          f"{row['mean']:.2f} on the mean one, above {row['percentile']:.0%} of frames; "
          f"centroid off by {row['distance']:.3f} widths", flush=True)


def print_summary(rows: list[dict]) -> None:
    for name, chosen in (("all", rows), ("held out", [r for r in rows if r["held_out"]])):
        if not chosen:
            continue
        keys = ("chosen", "mean", "percentile", "window_chosen", "window_mean", "distance")
        print(f"{name}, {len(chosen)} clips:", "  ".join(f"{k} {np.mean([r[k] for r in chosen]):.3f}" for k in keys))
        for key in ("centredness", "entropy_bits", "spread"):
            ours, people = ([r[f"{key}_{who}"] for r in chosen] for who in ("ours", "people"))
            print(f"  {key}: ours {np.mean(ours):.3f}, people {np.mean(people):.3f}, "
                  f"correlation over clips {np.corrcoef(ours, people)[0, 1]:.2f}")


if __name__ == "__main__":
    main()
