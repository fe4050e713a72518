"""The layout that Hollywood-2 and UCF Sports share: ``{training,testing}/CLIP/{images,maps,fixation}``."""

from __future__ import annotations

from pathlib import Path

from diffsal.data.clip import Clip
from diffsal.data.databases.record import Extracted
from diffsal.data.map_files import MapFiles
from diffsal.errors import InputError
from diffsal.folders import list_files, list_folders
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
        for folder in list_folders(root / base):
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
    return next(iter(list_files(folder, VIDEO_SUFFIXES)), images)


def extracted(root: Path, clip: Clip) -> Extracted:
    """In the clip's own folder."""
    return Extracted(clip.video.parent / "images", clip.name.replace("{", "{{").replace("}", "}}") + "_{:05d}")
