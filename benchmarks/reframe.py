"""How many of people's fixations a crop keeps: ours, a centre crop, and the best crop that stands still, per clip.

    python benchmarks/reframe.py GAZE --out reframe.json

GAZE is a folder in the gaze layout. Every frame on which at least five people fixate counts; a figure is the mean over
frames of the share of fixations inside the crop. "best static" is chosen with the people's own fixations, in hindsight.
"""

from __future__ import annotations

import json
import time
from fractions import Fraction

import numpy as np
from gaze_clips import HELD_OUT, LEAST_FIXATIONS, clips_of, parser_of

import diffsal
from diffsal.data.databases.gaze import read_clip
from diffsal.decisions.crop_path import PathSettings, positions
from diffsal.decisions.reframe import crop_size, solve, watch
from diffsal.media.source import open_source


def kept(where: np.ndarray, size: float, fixations: list[np.ndarray]) -> float:
    """Mean over frames of the share of x positions in [where, where + size]."""
    return float(np.mean([((x >= w) & (x <= w + size)).mean()
                          for w, x in zip(where, fixations, strict=True) if len(x) >= LEAST_FIXATIONS]))


def cut_faces(where: np.ndarray, size: float, width: int, faces: list[list]) -> tuple[int, int]:
    """Faces that an edge of the crop cuts by more than 15 %, and all faces that hold 2 % of attention or more."""
    cut = total = 0
    for w, found in zip(where, faces, strict=True):
        for left, _, right, _, share in found:
            if share >= 0.02 and (right - left) / width < size:
                depth = max(min(edge - left / width, right / width - edge) for edge in (w, w + size))
                cut, total = cut + int(depth > 0.15 * (right - left) / width), total + 1
    return cut, total


def main() -> None:
    options = parser_of(__doc__, "reframe.json").parse_args()
    model, rows = diffsal.load(options.weights), []
    for video, table in clips_of(options.gaze, options.clips):
        source = open_source(video)
        began = time.perf_counter()
        watched = watch(model, source, horizontal=True)
        spent = time.perf_counter() - began
        clip = read_clip(video, table)
        on_frames = [clip.on_frame(s) for s in watched.seconds]
        xs = [r[((r[:, 3:5] >= 0) & (r[:, 3:5] <= 1)).all(1), 3] for r in on_frames]
        for aspect in (Fraction(9, 16), Fraction(1)):
            crop = crop_size(source, aspect)
            size, count = crop[0] / source.width, len(xs)
            row = {"clip": video.stem, "aspect": str(aspect), "held_out": video.stem in HELD_OUT,
                   "centre": kept(np.full(count, (1 - size) / 2), size, xs),
                   "best_static": max(kept(np.full(count, p), size, xs) for p in positions(size)[::4])}
            for name, follow in (("static", 0.0), ("ours", 0.5), ("close", 0.8)):
                path = solve(source, aspect, crop, PathSettings(follow), watched)
                where = np.array(path.left) / source.width
                row[name] = kept(where, size, xs)
                row[f"{name}_travel_per_second"] = float(np.abs(np.diff(where)).sum() / watched.seconds[-1])
                if name == "ours":
                    row["faces_cut"], row["faces"] = cut_faces(where, size, source.width, path.faces)
            row["faces_cut_centre"], _ = cut_faces(np.full(count, (1 - size) / 2), size, source.width, path.faces)
            row["seconds_of_video"], row["seconds_taken"] = watched.seconds[-1], spent
            rows.append(row)
            print(f"{video.stem:20s} {aspect!s:5s} centre {row['centre']:.3f}  best static {row['best_static']:.3f}  "
                  f"ours {row['ours']:.3f}  (still {row['static']:.3f}, close {row['close']:.3f})", flush=True)
        options.out.write_text(json.dumps(rows, indent=1))
    for aspect in ("9/16", "1"):
        for name, chosen in (("all", [r for r in rows if r["aspect"] == aspect]),
                             ("held out", [r for r in rows if r["aspect"] == aspect and r["held_out"]])):
            means = "  ".join(f"{key} {np.mean([r[key] for r in chosen]):.3f}"
                              for key in ("centre", "best_static", "static", "ours", "close"))
            cut = [sum(r[key] for r in chosen) for key in ("faces_cut", "faces_cut_centre", "faces")]
            print(f"{aspect}, {name}: {means}  faces cut {cut[0]} (centre {cut[1]}) of {cut[2]}")


if __name__ == "__main__":
    main()
