"""DHF1K (Wang et al., CVPR 2018): 1,000 videos of 640x360 at 30 frames per second, 17 observers.

Three layouts are in use, and any of them is read:

- as published: ``video/001.AVI`` with ``annotation/0001/maps/0001.png``, ``annotation/0001/fixation/0001.png`` and
  ``annotation/0001/fixation/maps/0001.mat``;
- frames extracted beside the maps: ``annotation/0001/{images,maps,fixation}/0001.png``;
- by kind: ``frames/1/1.png``, ``maps/1/0001.png``, ``fixation/1/0001.png`` (or ``fixation/maps/1/0001.mat``).
"""

from __future__ import annotations

from pathlib import Path

from diffsal.data.clip import Clip
from diffsal.data.databases.record import Database, Extracted
from diffsal.data.map_files import MapFiles
from diffsal.data.truth import Sigma
from diffsal.errors import InputError
from diffsal.folders import list_files, list_folders
from diffsal.media.source import VIDEO_SUFFIXES

FRAME_RATE = 30.0
SIGMA_PIXELS = 12.74  # of the maps' blur, as published
TRUTH_FOLDERS = ("maps", "fixation/maps", "fixation")
SPLITS = {"train": range(1, 601), "val": range(601, 701), "test": range(701, 1001)}  # test: no ground truth


def read(root: Path, split: str = "all", fold: int | None = None) -> list[Clip]:
    """The clips of ``train``, ``val``, ``test`` or ``all`` that are there, by number; ``fold`` is not used.

    Frames are taken before a video file where both are there; the sound comes from the video file.
    """
    if split not in (*SPLITS, "all"):
        raise InputError(f"split {split!r} of dhf1k: expected one of {', '.join(SPLITS)}, all")
    annotation, frames = _by_number(root / "annotation"), _by_number(root / "frames")
    videos = _by_number(root / "video", files=True)
    kinds = [(folder, _by_number(folder)) for folder in (root / name for name in TRUTH_FOLDERS)]
    clips = []
    for name, numbers in SPLITS.items():
        for number in numbers if split in (name, "all") else ():
            own, file = annotation.get(number), videos.get(number)
            folder = own / "images" if own is not None and (own / "images").is_dir() else frames.get(number)
            video = folder or file
            if video is None:
                continue
            by_kind = [found.get(number, folder / str(number)) for folder, found in kinds]
            in_own = [] if own is None else [own / name for name in TRUTH_FOLDERS]
            truth = _truth(in_own, by_kind, expected=name != "test")
            clips.append(Clip(f"{number:04d}", "dhf1k", name, video, truth, FRAME_RATE, folder and file))
    if not clips:
        raise InputError(f"{root}: no DHF1K videos of split {split}: expected video/001.AVI, annotation/0001/images or "
                         "frames/1; see docs/databases.md")
    return clips


def _truth(in_own: list[Path], by_kind: list[Path], expected: bool) -> MapFiles | None:
    """The ground truth in a clip's own folders, or in those by kind; None where there is none and none is expected."""
    there = next((folders for folders in (in_own, by_kind) if any(f.is_dir() for f in folders)), None)
    folders = there or (in_own or by_kind if expected else None)
    return MapFiles(folders[0], tuple(folders[1:])) if folders else None


def _by_number(folder: Path, files: bool = False) -> dict[int, Path]:
    """The numbered folders (or video files) of ``folder``."""
    paths = list_files(folder, VIDEO_SUFFIXES) if files else list_folders(folder)
    return {int(p.stem): p for p in paths if p.stem.isdecimal() and (files or not p.suffix)}


def recognise(root: Path) -> bool:
    """Whether one of the layouts lies under ``root``."""
    return (root / "annotation").is_dir() or (root / "maps").is_dir()


def extracted(root: Path, clip: Clip) -> Extracted:
    """Beside the maps, where the reader looks first."""
    return Extracted(root / "annotation" / clip.name / "images", "{:04d}")


DATABASE = Database(
    "dhf1k", read, splits={name: len(numbers) for name, numbers in SPLITS.items()}, scored_split="val",
    sigma=Sigma(SIGMA_PIXELS, "px"), recognise=recognise, has_sound=True, frame_rate=FRAME_RATE, extracted=extracted,
    maps_as_organisers=True, margins=(8, 24))
