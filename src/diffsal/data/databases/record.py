"""What there is to know about a database: its reader, splits, protocol, published counts, blur, places of files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from diffsal.data.clip import Clip
from diffsal.data.truth import SIGMA_FRACTION, Sigma

OWN_SIGMA = Sigma(SIGMA_FRACTION, "w")


@dataclass(frozen=True)
class Extracted:
    """Where ``prepare --frames`` puts a clip's frames (``name`` takes the number, from 1) and its sound."""

    frames: Path
    name: str
    sound: Path | None = None


def clip_name(clip: Clip) -> str:
    return clip.name


@dataclass(frozen=True)
class Database:
    """One database. ``database(root, split, fold)`` are its clips (:attr:`read`).

    ``splits``: name → published number of videos, None where none was published. ``num_test``: videos that each fold
    tests, where there are folds. ``scored_split``: the part that papers score. ``by_set``: the splits are sets of their
    own, each with its own row in a table of scores. ``video_of``: the video that a clip was cut from. ``extracted``:
    where frames are extracted to; None where a video file's own times count. ``frame_rate``: of the ground truth, where
    video files must agree with it. ``least_frames`` and ``margins`` (first, last frames) are what the released
    evaluation leaves out.
    """

    name: str
    read: Callable[..., list[Clip]]
    protocol: str = "dhf1k"
    splits: dict[str, int | None] = field(default_factory=dict)
    scored_split: str = "test"
    num_videos: int | None = None
    num_test: tuple[int, ...] = ()
    sigma: Sigma = OWN_SIGMA
    recognise: Callable[[Path], bool] = lambda root: False
    split_names: Callable[[Path], list[str]] | None = None
    by_set: bool = False
    has_sound: bool = False
    frame_rate: float | None = None
    video_of: Callable[[Clip], str] = clip_name
    extracted: Callable[[Path, Clip], Extracted] | None = None
    maps_as_organisers: bool = False
    least_frames: int = 1
    margins: tuple[int, int] = (0, 0)

    def __call__(self, root: Path, split: str = "all", fold: int | None = None) -> list[Clip]:
        """The clips of ``split``; :class:`InputError` where it is unknown or nothing of it is there."""
        return self.read(root, split, fold)

    def set_of(self, clip: Clip) -> str:
        """The name under which a clip's scores are summed up."""
        return clip.split if self.by_set else self.name

    def splits_of(self, root: Path) -> dict[str, int | None]:
        """The splits that there are, with the published number of videos."""
        return dict.fromkeys(self.split_names(root)) if self.split_names else dict(self.splits)
