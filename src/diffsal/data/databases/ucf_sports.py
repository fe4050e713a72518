"""UCF Sports with gaze (Mathe and Sminchisescu, TPAMI 2015), as DHF1K's authors give it.

``{training,testing}/Diving-Side-001/{images,maps,fixation}/Diving-Side_001_001.png``; sizes differ between clips.
"""

from __future__ import annotations

from pathlib import Path

from diffsal.data.clip import Clip
from diffsal.data.databases import hollywood2
from diffsal.data.databases.record import Database
from diffsal.data.databases.shots import FOLDERS, extracted, read_shots
from diffsal.data.truth import Sigma

FRAME_RATE = 10.0  # UCF's page; there is no sound that it would have to fit
SIGMA_PIXELS = 20.0
NUM_VIDEOS = {"train": 103, "test": 47}


def read(root: Path, split: str = "all", fold: int | None = None) -> list[Clip]:
    """The clips of ``train``, ``test`` or ``all``, in name order; ``fold`` is not used."""
    return read_shots(root, "ucf_sports", split, FRAME_RATE)


def recognise(root: Path) -> bool:
    """Whether ``root`` has the layout, and is not Hollywood-2's."""
    return any((root / base).is_dir() for base in FOLDERS.values()) and not hollywood2.recognise(root)


DATABASE = Database(
    "ucf_sports", read, splits=dict(NUM_VIDEOS), sigma=Sigma(SIGMA_PIXELS, "px"), recognise=recognise,
    extracted=extracted, least_frames=32)
