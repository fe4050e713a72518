"""The gaze layout: clips and pictures with raw fixations, and the layout for anyone's own eye tracker.

``ROOT/videos/SET/CLIP.mp4`` with ``ROOT/gaze/SET/CLIP.csv`` (columns ``observer,start_s,duration_s,x,y``), and
``ROOT/images/SET/PICTURE.jpg`` with ``ROOT/gaze/SET.csv.gz`` or ``.csv`` (``image,observer,index,x,y,duration_s``).
``x`` and ``y`` are fractions of the picture's width and height, times are seconds on the clip's own clock. In picture
sets ``index`` 0 is the fixation that was there when the picture appeared: it is dropped, as the field does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from diffsal.data import tables
from diffsal.data.clip import Clip
from diffsal.data.databases.record import Database
from diffsal.data.truth import SIGMA_FRACTION, Sigma, count_fixations, draw_map, inside, to_pixels
from diffsal.errors import InputError
from diffsal.folders import find_file, list_files, list_folders, stem_of
from diffsal.media.source import PICTURE_SUFFIXES, VIDEO_SUFFIXES

VIDEO_COLUMNS = ("observer", "start_s", "duration_s", "x", "y")
PLACES = (("x", "x_fraction"), ("y", "y_fraction"))  # of the picture's width and height
READ_COLUMNS = ("observer", tables.in_seconds("start"), tables.in_seconds("duration"), *PLACES)
PICTURE_COLUMNS = ("image", "observer", "index", "x", "y")
# Clips of the pack that show the same scene belong on one side of a split.
SCENES = (
    ("RaceHorsesC", "RaceHorsesD"),
    ("BasketballDrill", "BasketballDrillText"),
    ("FourPeople", "Johnny", "KristenAndSara", "Vidyo1", "Vidyo3", "Vidyo4"),
)


@dataclass(frozen=True, eq=False)
class GazeClip:
    """One clip (or picture, a clip of one frame) and all observers' fixations on it.

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
        """How many fixations lie outside the picture, or nowhere: lost ones, written as 0, 0."""
        return int((~inside(self.gaze.fixations[:, 3:5])).sum())

    def _rows(self, clip: Clip, index: int) -> np.ndarray:
        rows = self.gaze.on_frame(clip.seconds(index))
        return rows[inside(rows[:, 3:5])]

    def annotated(self, clip: Clip) -> list[int]:
        """Frames that somebody fixates."""
        return [i for i in range(clip.num_frames) if len(self._rows(clip, i))]

    def inputs(self, clip: Clip) -> list[Path]:
        return [self.table]

    def map_path(self, clip: Clip, index: int) -> Path:
        return self.table

    def saliency_map(self, clip: Clip, index: int) -> np.ndarray:
        return draw_map(self._rows(clip, index)[:, 3:5], clip.height, clip.width, None, self.sigma)

    def points(self, clip: Clip, index: int) -> np.ndarray:
        return to_pixels(self._rows(clip, index)[:, 3:5], clip.height, clip.width)

    def fixations(self, clip: Clip, index: int) -> np.ndarray:
        return count_fixations(self.points(clip, index), clip.height, clip.width) > 0

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
    return [folder.name for kind in ("videos", "images") for folder in list_folders(root / kind)]


def _clips(root: Path, name: str, sigma: float) -> list[Clip]:
    if (root / "videos" / name).is_dir():
        return [Clip(stem, "gaze", name, path, GazeTruth(video_table(root, name, stem), sigma))
                for stem, path in videos(root, name)]
    table = picture_table(root, name)
    return [Clip(g.name, "gaze", name, g.path, GazeTruth(table, sigma, g)) for g in read_set(root, name)]


def videos(root: Path, name: str) -> list[tuple[str, Path]]:
    """Name and path of every video of a set: files of any kind, and folders of pictures."""
    folder = root / "videos" / name
    found = {path.name: path for path in list_folders(folder)}
    for path in list_files(folder, VIDEO_SUFFIXES):
        found.setdefault(path.stem, path)
    return sorted(found.items())


def read_set(root: Path, set_name: str) -> list[GazeClip]:
    """Every clip or picture of ``set_name`` in name order.

    Raises :class:`InputError` where the set, a clip's fixations or a column is missing or a cell is no number.
    Observers may have names: :func:`diffsal.data.tables.numbered`.
    """
    videos_folder, pictures = root / "videos" / set_name, root / "images" / set_name
    if videos_folder.is_dir():
        return [read_clip(path, video_table(root, set_name, stem)) for stem, path in videos(root, set_name)]
    if pictures.is_dir():
        return _read_pictures(root, set_name, pictures)
    raise InputError(f"{root}: no set {set_name!r}: expected a folder {videos_folder} or {pictures}; there are "
                     f"{', '.join(set_names(root)) or 'none'}: to train on these, picture_sets=… video_sets=…")


def read_clip(path: Path, table: Path) -> GazeClip:
    """The fixations of the video ``path`` from ``table``; :class:`InputError` as :func:`read_set`."""
    read = list(tables.read_rows(table, READ_COLUMNS))
    numbers = tables.numbered(tables.observer(row, table) for row in read)
    rows = [(numbers[row.cells["observer"]], tables.seconds(row, "start", table), _duration(row, table),
             *(tables.place(row, names, table) for names in PLACES)) for row in read]
    name = path.name if path.is_dir() else stem_of(path, (path.suffix.lower(), *tables.SUFFIXES))
    return GazeClip(name, table.parent.name, path, False, _without_lost(rows))


def _duration(row: tables.Row, table: Path) -> float:
    seconds = tables.seconds(row, "duration", table)
    if seconds < 0:
        raise InputError(f"{table}: line {row.line}: its duration {seconds:g} s is negative; export the table again")
    return seconds


def video_table(root: Path, set_name: str, stem: str) -> Path:
    """The table of a video, there or not."""
    folder = root / "gaze" / set_name
    return find_file(folder, stem, tables.SUFFIXES) or folder / f"{stem}.csv"


def picture_table(root: Path, set_name: str) -> Path:
    """The table of a set of pictures, there or not."""
    first = (".csv.gz", *tables.SUFFIXES)
    return find_file(root / "gaze", set_name, first) or root / "gaze" / f"{set_name}.csv"


def _read_pictures(root: Path, set_name: str, folder: Path) -> list[GazeClip]:
    table = picture_table(root, set_name)
    by_picture: dict[str, list[tuple[float, ...]]] = {}
    for name, index, *values in _picture_rows(table):
        if index > 0:
            by_picture.setdefault(name, []).append((values[0], 0.0, 0.0, *values[1:]))
    names = _by_stem(table, by_picture)
    clips: dict[str, GazeClip] = {}
    for path in list_files(folder, PICTURE_SUFFIXES):
        if path.stem in names:
            rows = by_picture[names[path.stem]]
            clips.setdefault(path.stem, GazeClip(path.stem, set_name, path, True, _without_lost(rows)))
    if names and not clips:
        raise InputError(f"{table}: its images ({next(iter(names))} …) are none of the pictures in {folder}; image is "
                         "the name of the file")
    return [clips[name] for name in sorted(clips)]


def _by_stem(table: Path, names: Iterable[str]) -> dict[str, str]:
    """Pictures as the table calls them, by the stem of their files: some tables keep endings and folders."""
    found: dict[str, str] = {}
    for name in names:
        file = name.replace("\\", "/").rpartition("/")[2]
        stem = stem_of(Path(file), PICTURE_SUFFIXES) if file else name
        if found.setdefault(stem, name) != name:
            raise InputError(f"{table}: calls one picture {found[stem]} and {name}; give each picture one name")
    return found


def left_out(root: Path, set_name: str) -> list[str]:
    """What lies in a set's folders and is not read, a line each: files of one name, pictures without fixations."""
    is_video = (root / "videos" / set_name).is_dir()
    folder = root / ("videos" if is_video else "images") / set_name
    files = list_files(folder, VIDEO_SUFFIXES if is_video else PICTURE_SUFFIXES)
    stems = [path.stem for path in files]
    lines = [f"{path}: is left out, {path.with_suffix(files[stems.index(path.stem)].suffix).name} has the same name; "
             "call one otherwise" for at, path in enumerate(files) if path.stem in stems[:at]]
    if is_video:
        return lines
    table = picture_table(root, set_name)
    names = _by_stem(table, {name for name, index, *_ in _picture_rows(table) if index > 0})
    for missing, what in ((sorted(set(stems) - set(names)), f"pictures of {folder} have no fixation there"),
                          (sorted(set(names) - set(stems)), f"images with fixations are not in {folder}")):
        if missing:
            lines.append(f"{table}: {len(missing)} {what} ({missing[0]}{' …' * (len(missing) > 1)}); they are left out")
    return lines


def _without_lost(rows: list[tuple[float, ...]]) -> Float[np.ndarray, "n 5"]:
    """The rows as an array; those at exactly 0, 0, which trackers write where they lost the eye, are nowhere (NaN)."""
    array = np.array(rows, dtype=np.float64).reshape(-1, 5)
    array[(array[:, 3] == 0) & (array[:, 4] == 0), 3:5] = np.nan
    return array


def _picture_rows(table: Path) -> Iterator[tuple]:
    rows = list(tables.read_rows(table, (*PICTURE_COLUMNS[:-2], *PLACES)))
    numbers = tables.numbered(tables.observer(row, table) for row in rows)
    for row in rows:
        yield (row.cells["image"], tables.number(row, "index", table), numbers[row.cells["observer"]],
               *(tables.place(row, names, table) for names in PLACES))


def saliency_map(
    fixations: Float[np.ndarray, "n 5"], height: int, width: int, aspect: float, sigma: float = SIGMA_FRACTION
) -> Float[np.ndarray, "{height} {width}"]:
    """Rows of :class:`GazeClip` as :func:`diffsal.data.truth.draw_map` draws them."""
    return draw_map(fixations[:, 3:5], height, width, aspect, sigma)


def recognise(root: Path) -> bool:
    """Whether the layout lies under ``root``."""
    return (root / "gaze").is_dir()


DATABASE = Database(
    "gaze", read, protocol="gaze", scored_split="all", sigma=Sigma(SIGMA_FRACTION, "w"), recognise=recognise,
    split_names=set_names, by_set=True)
