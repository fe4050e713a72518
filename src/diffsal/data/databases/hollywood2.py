"""Hollywood-2 with gaze (Mathe and Sminchisescu, TPAMI 2015), cut into shots as DHF1K's authors give it.

``{training,testing}/actionclip{train,test}00001_1/{images,maps,fixation}/actionclip…00001_00023.png``: one folder per
shot, files numbered from anywhere, many shots shorter than a window.
"""

from __future__ import annotations

from pathlib import Path

from diffsal.data.clip import Clip
from diffsal.data.databases.record import Database
from diffsal.data.databases.shots import extracted, read_shots
from diffsal.data.truth import Sigma
from diffsal.folders import list_folders

FRAME_RATE = 25.0  # pictures carry none; there is no sound that it would have to fit
SIGMA_PIXELS = 20.0
NUM_VIDEOS = {"train": 823, "test": 884}  # each cut into one or more shots


def read(root: Path, split: str = "all", fold: int | None = None) -> list[Clip]:
    """The shots of ``train``, ``test`` or ``all``, in name order; ``fold`` is not used."""
    return read_shots(root, "hollywood2", split, FRAME_RATE)


def video_of(clip: Clip) -> str:
    """The video that a shot was cut from: ``actioncliptest00001`` of ``actioncliptest00001_2``."""
    return clip.name.rpartition("_")[0]


def recognise(root: Path) -> bool:
    """Whether shots of it lie under ``root``."""
    return any(f.name.startswith("actionclip") for base in ("training", "testing") for f in list_folders(root / base))


DATABASE = Database(
    "hollywood2", read, splits=dict(NUM_VIDEOS), sigma=Sigma(SIGMA_PIXELS, "px"), recognise=recognise,
    video_of=video_of, extracted=extracted, least_frames=32)
