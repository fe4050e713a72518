"""What the benchmarks over GAZE, a folder in the gaze layout, share: their options, its clips, who was held out."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from diffsal.training.recipes import VALIDATION_SCENES as HELD_OUT  # noqa: F401

LEAST_FIXATIONS = 5  # on a frame that counts


def parser_of(doc: str | None, out: str, clips: str = "") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gaze", type=Path)
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--weights", default="compact")
    parser.add_argument("--clips", default=clips, help=f"names with commas between; default: {clips or 'all'}")
    return parser


def clips_of(gaze: Path, names: str) -> Iterator[tuple[Path, Path]]:
    """Videos and their tables of fixations, in name order; ``names`` "": all."""
    videos = sorted((gaze / "videos").glob("*/*.mp4"))
    unknown = {*filter(None, names.split(","))} - {video.stem for video in videos}
    if unknown:
        raise SystemExit(f"{gaze}: has no clip {', '.join(sorted(unknown))}")
    for video in videos:
        if not names or video.stem in names.split(","):
            yield video, gaze / "gaze" / video.parent.name / f"{video.stem}.csv"
