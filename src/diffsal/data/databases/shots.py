"""The layout that Hollywood-2 and UCF Sports share: ``{training,testing}/CLIP/{images,maps,fixation}``."""

from __future__ import annotations

from pathlib import Path

from diffsal.data.clip import Clip
from diffsal.data.truth import MapFiles
from diffsal.errors import InputError
from diffsal.media.source import VIDEO_SUFFIXES

FOLDERS = {"train": "training", "test": "testing"}


def read_shots(root: Path, dataset: str, split: str, frame_rate: float) -> list[Clip]:
    """One clip per folder; frames from ``images``, or from the first video file in the clip's folder without it."""
    if split not in (*FOLDERS, "all"):
        raise InputError(f"split {split!r} of {dataset}: expected one of {', '.join(FOLDERS)}, all")
    clips = []
    for name, base in FOLDERS.items():
        if split not in (name, "all") or not (root / base).is_dir():
            continue
        for folder in sorted(p for p in (root / base).iterdir() if p.is_dir() and p.name[0] != "."):
            truth = MapFiles(folder / "maps", (folder / "fixation" / "maps", folder / "fixation"))
            clips.append(Clip(folder.name, dataset, name, _video(folder), truth, frame_rate))
    if not clips:
        wanted = " or ".join(f"{base}/CLIP/images" for name, base in FOLDERS.items() if split in (name, "all"))
        raise InputError(f"{root}: no {dataset} clips: expected {wanted}; see docs/databases.md")
    return clips


def _video(folder: Path) -> Path:
    images = folder / "images"
    if images.is_dir():
        return images
    return next((p for p in sorted(folder.iterdir()) if p.suffix.lower() in VIDEO_SUFFIXES), images)
