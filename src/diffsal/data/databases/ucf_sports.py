"""UCF Sports with gaze (Mathe and Sminchisescu, TPAMI 2015), as DHF1K's authors give it.

``{training,testing}/Diving-Side-001/{images,maps,fixation}/Diving-Side_001_001.png``; sizes differ between clips.
"""

from __future__ import annotations

from pathlib import Path

from diffsal.data.clip import Clip
from diffsal.data.databases.shots import read_shots

FRAME_RATE = 10.0  # UCF's page; there is no sound that it would have to fit
SIGMA_PIXELS = 20.0
NUM_VIDEOS = {"train": 103, "test": 47}


def read(root: Path, split: str = "all", fold: int | None = None) -> list[Clip]:
    """The clips of ``train``, ``test`` or ``all``, in name order; ``fold`` is not used."""
    return read_shots(root, "ucf_sports", split, FRAME_RATE)
