"""The gaze layout: clips and pictures with raw fixations, and the layout for anyone's own eye tracker.

``ROOT/videos/SET/CLIP.mp4`` with ``ROOT/gaze/SET/CLIP.csv`` (columns ``observer,start_s,duration_s,x,y``), and
``ROOT/images/SET/PICTURE.jpg`` with ``ROOT/gaze/SET.csv.gz`` or ``.csv`` (``image,observer,index,x,y,duration_s``).
``x`` and ``y`` are fractions of the picture's width and height, times are seconds on the clip's own clock. In picture
sets ``index`` 0 is the fixation that was there when the picture appeared: it is dropped, as the field does.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from diffsal.data.clip import Clip
from diffsal.errors import InputError
from diffsal.media.source import VIDEO_SUFFIXES

SIGMA_FRACTION = 0.025  # of the width: the ground truth's blur in the gaze protocol
VIDEO_COLUMNS = ("observer", "start_s", "duration_s", "x", "y")
PICTURE_COLUMNS = ("image", "observer", "index", "x", "y")
# Clips of the pack that show the same scene belong on one side of a split.
SCENES = (
    ("RaceHorsesC", "RaceHorsesD"),
    ("BasketballDrill", "BasketballDrillText"),
    ("FourPeople", "Johnny", "KristenAndSara", "Vidyo1", "Vidyo3", "Vidyo4"),
)


@dataclass(frozen=True, eq=False)
class GazeClip:
    """One clip (or picture, a clip of one frame) and everybody's fixations on it.

    ``fixations``: float64 (n, 5), one row per fixation: observer, start and duration in seconds, x and y as fractions.
    """

    name: str
    set_name: str
    path: Path
    is_picture: bool
    fixations: np.ndarray

    def on_frame(self, seconds: float) -> Float[np.ndarray, "n 5"]:
        """The fixations whose time ``[start, start + duration)`` holds ``seconds``; on a picture, all of them."""
        if self.is_picture:
            return self.fixations
        start, duration = self.fixations[:, 1], self.fixations[:, 2]
        return self.fixations[(start <= seconds) & (seconds < start + duration)]

    @cached_property
    def scene(self) -> str:
        """A name shared by clips that show the same scene."""
        return next((group[0] for group in SCENES if self.name in group), self.name)


@dataclass(frozen=True, eq=False)
class GazeTruth:
    """Ground truth drawn from fixations: ``sigma`` is the blur as a fraction of the width. Reads ``table`` when asked.

    Fixations outside the picture are left out; ``outside`` counts them.
    """

    table: Path
    sigma: float = SIGMA_FRACTION
    given: GazeClip | None = field(default=None, repr=False)  # a picture's, whose table is that of the whole set

    @cached_property
    def gaze(self) -> GazeClip:
        return self.given or read_clip(self.table, self.table)

    @property
    def outside(self) -> int:
        return int((~_inside(self.gaze.fixations)).sum())

    def _rows(self, clip: Clip, index: int) -> np.ndarray:
        rows = self.gaze.on_frame(clip.seconds(index))
        return rows[_inside(rows)]

    def annotated(self, clip: Clip) -> list[int]:
        """Frames that somebody fixates."""
        return [i for i in range(clip.num_frames) if len(self._rows(clip, i))]

    def map_path(self, clip: Clip, index: int) -> Path:
        return self.table

    def saliency_map(self, clip: Clip, index: int) -> np.ndarray:
        return saliency_map(self._rows(clip, index), clip.height, clip.width, clip.width / clip.height, self.sigma)

    def points(self, clip: Clip, index: int) -> np.ndarray:
        rows = self._rows(clip, index)
        size = np.array([clip.width, clip.height])
        return np.minimum(rows[:, 3:5] * size, size - 1).astype(np.int64)

    def fixations(self, clip: Clip, index: int) -> np.ndarray:
        fixated = np.zeros((clip.height, clip.width), bool)
        columns, rows = self.points(clip, index).T
        fixated[rows, columns] = True
        return fixated

    def observers(self, clip: Clip, index: int) -> np.ndarray:
        return self._rows(clip, index)[:, 0].astype(np.int64)


def read(root: Path, split: str = "all", fold: int | None = None, sigma: float = SIGMA_FRACTION) -> list[Clip]:
    """The clips and pictures of set ``split``, or of all sets; ``fold`` is not used. A clip's ``split`` is its set."""
    names = set_names(root)
    if not names:
        raise InputError(f"{root}: no such folder, or no videos/SET and images/SET in it: see docs/databases.md, gaze")
    if split != "all" and split not in names:
        raise InputError(f"{root}: no set {split!r}: expected a folder {root / 'videos' / split} or "
                         f"{root / 'images' / split}; there are {', '.join(names)}")
    return [clip for name in names if split in ("all", name) for clip in _clips(root, name, sigma)]


def set_names(root: Path) -> list[str]:
    """The sets of ``root``, those of videos first."""
    return [f.name for kind in ("videos", "images") for f in sorted(root.glob(f"{kind}/*")) if f.is_dir()]


def _clips(root: Path, name: str, sigma: float) -> list[Clip]:
    videos = root / "videos" / name
    if videos.is_dir():
        paths = sorted(p for p in videos.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES or p.is_dir())
        return [Clip(p.stem, "gaze", name, p, GazeTruth(root / "gaze" / name / f"{p.stem}.csv", sigma)) for p in paths]
    table = _picture_table(root, name)
    return [Clip(g.name, "gaze", name, g.path, GazeTruth(table, sigma, g)) for g in read_set(root, name)]


def read_set(root: Path, set_name: str) -> list[GazeClip]:
    """Every clip or picture of ``set_name`` in name order.

    Raises :class:`InputError` where the set, a clip's fixations or a column is missing or a row is not numeric.
    """
    videos, pictures = root / "videos" / set_name, root / "images" / set_name
    if videos.is_dir():
        tables = root / "gaze" / set_name
        return [read_clip(path, tables / f"{path.stem}.csv") for path in sorted(videos.glob("*.mp4"))]
    if pictures.is_dir():
        return _read_pictures(root, set_name, pictures)
    raise InputError(f"{root}: no set {set_name!r}: expected a folder {videos} or {pictures}; there are "
                     f"{', '.join(set_names(root)) or 'none'}: to train on these, picture_sets=… video_sets=…")


def read_clip(path: Path, table: Path) -> GazeClip:
    """The fixations of the video ``path`` from ``table``, a ``.csv``; :class:`InputError` as :func:`read_set`."""
    rows = _read_rows(table, VIDEO_COLUMNS)
    return GazeClip(path.stem, table.parent.name, path, False, np.array(rows, dtype=np.float64).reshape(-1, 5))


def _picture_table(root: Path, set_name: str) -> Path:
    table = root / "gaze" / f"{set_name}.csv.gz"
    return table if table.exists() else table.with_suffix("")


def _inside(rows: np.ndarray) -> np.ndarray:
    return ((rows[:, 3:5] >= 0) & (rows[:, 3:5] <= 1)).all(1)


def _read_pictures(root: Path, set_name: str, folder: Path) -> list[GazeClip]:
    rows = _read_rows(_picture_table(root, set_name), PICTURE_COLUMNS)
    by_picture: dict[str, list[tuple[float, ...]]] = {}
    for name, observer, index, x, y in rows:
        if float(index) > 0:
            by_picture.setdefault(str(name), []).append((observer, 0.0, 0.0, x, y))
    paths = sorted(path for path in folder.iterdir() if path.stem in by_picture)
    return [GazeClip(p.stem, set_name, p, True, np.array(by_picture[p.stem], dtype=np.float64)) for p in paths]


def _read_rows(path: Path, columns: tuple[str, ...]) -> list[tuple]:
    if not path.exists():
        raise InputError(f"{path}: no such file: the fixations of this clip or set belong there")
    rows, opened = [], gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            missing = [c for c in columns if c not in header]
            if missing:
                raise InputError(f"{path}: no column {', '.join(missing)}: expected {','.join(columns)}")
            places = [(header.index(c), c == "image") for c in columns]
            for row in filter(None, reader):
                try:
                    rows.append(tuple(row[at] if is_name else float(row[at]) for at, is_name in places))
                except (IndexError, ValueError):
                    raise InputError(f"{path}: line {reader.line_num} is not numeric: {','.join(row)}") from None
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise InputError(f"{path}: damaged or cut short ({error}); fetch it again") from None
    return rows


def saliency_map(
    fixations: Float[np.ndarray, "n 5"], height: int, width: int, aspect: float, sigma: float = SIGMA_FRACTION
) -> Float[np.ndarray, "{height} {width}"]:
    """Fixations blurred with ``sigma`` (a fraction of the width), scaled to a maximum of 1; zero where nobody fixates.

    ``aspect`` is the picture's own width over height: σ is round on the picture, not on a stretched grid.
    """
    if not len(fixations):
        return np.zeros((height, width), np.float32)
    columns = _bumps(fixations[:, 3], width, sigma * width)
    rows = _bumps(fixations[:, 4], height, sigma * aspect * height)
    grid = rows.T @ columns  # a Gaussian is a column times a row: a sum over fixations, not a filter over pixels
    return grid / grid.max()


def _bumps(fractions: np.ndarray, size: int, sigma: float) -> Float[np.ndarray, "n {size}"]:
    """One Gaussian along ``size`` pixels for each fixation, mirrored at the ends as a filter would."""
    deltas = np.zeros((len(fractions), size), np.float32)
    deltas[np.arange(len(fractions)), np.clip((fractions * size).astype(int), 0, size - 1)] = 1
    return cv2.GaussianBlur(deltas, (round(8 * sigma + 1) | 1, 1), sigma)
