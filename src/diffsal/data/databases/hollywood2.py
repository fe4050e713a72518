"""Hollywood-2 with gaze (Mathe and Sminchisescu, TPAMI 2015), cut into shots as DHF1K's authors give it.

``{training,testing}/actionclip{train,test}00001_1/{images,maps,fixation}/actionclip…_00023.png``: one folder per
shot, files numbered from anywhere, many shots shorter than a window.
"""

from __future__ import annotations

from pathlib import Path

from diffsal.data.clip import Clip
from diffsal.data.databases.shots import read_shots

FRAME_RATE = 25.0  # pictures carry none; there is no sound that it would have to fit
SIGMA_PIXELS = 20.0
NUM_VIDEOS = {"train": 823, "test": 884}  # each cut into one or more shots


def read(root: Path, split: str = "all", fold: int | None = None) -> list[Clip]:
    """The shots of ``train``, ``test`` or ``all``, in name order; ``fold`` is not used."""
    return read_shots(root, "hollywood2", split, FRAME_RATE)


def video_of(clip: Clip) -> str:
    """The video that a shot was cut from: ``actioncliptest00001`` of ``actioncliptest00001_2``."""
    return clip.name.rpartition("_")[0]
