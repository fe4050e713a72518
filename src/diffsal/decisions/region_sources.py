"""Regions that move: fixed boxes, boxes over time from a table, masks per frame, and tracks from a first box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from jaxtyping import Bool, Float

from diffsal.data import tables
from diffsal.errors import InputError
from diffsal.folders import trailing_number
from diffsal.media.pictures import read_grey
from diffsal.media.source import Source, numbered_pictures, open_source

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
BOX_COLUMNS = ("left", "top", "right", "bottom")
GRID = 12  # points along each side of a box that is followed
MOST_ERROR = 2.0  # pixels from where a point started, when it was followed there and back
LEAST_POINTS = GRID * GRID // 2


class Shown(Protocol):
    """What a region needs of a frame or a prediction: its index, its time and its picture (h, w, 3)."""

    @property
    def index(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    @property
    def image(self) -> np.ndarray: ...


class MovingRegion(Protocol):
    """A named region: where it is on a frame, if it is there at all."""

    name: str

    def mask(self, frame: Shown) -> Bool[np.ndarray, "h w"] | None:
        """Which pixels of the frame lie in it; None where it is not in the picture."""

    def box(self, frame: Shown) -> Box | None:
        """The smallest box that holds it on this frame, in pixels."""


def box_mask(box: Box, height: int, width: int) -> Bool[np.ndarray, "{height} {width}"]:
    """The pixels whose middles lie in a box."""
    ys, xs = np.ogrid[0:height, 0:width]
    return (xs + 0.5 >= box[0]) & (xs + 0.5 < box[2]) & (ys + 0.5 >= box[1]) & (ys + 0.5 < box[3])


@dataclass
class BoxRegion:
    """Boxes at times, interpolated on straight lines in between; absent before the first and after the last.

    ``boxes``: float (n, 4) in pixels; a row of NaN: from there on absent until the next. One row only: always there.
    """

    name: str
    seconds: Float[np.ndarray, " n"]
    boxes: Float[np.ndarray, "n 4"]

    def box(self, frame: Shown) -> Box | None:
        if len(self.seconds) == 1:
            found = self.boxes[0]
        else:
            after = int(np.searchsorted(self.seconds, frame.seconds + 1e-6, side="right"))
            if after == 0 or (after == len(self.seconds) and frame.seconds > self.seconds[-1] + 1e-6):
                return None
            before, after = after - 1, min(after, len(self.seconds) - 1)
            found = self.boxes[before]
            if after > before and not np.isnan(self.boxes[after]).any():
                span = self.seconds[after] - self.seconds[before]
                found = found + (self.boxes[after] - found) * min(
                    1.0, max(0.0, (frame.seconds - self.seconds[before]) / span)
                )
        height, width = frame.image.shape[:2]
        left, top, right, bottom = (float(v) for v in found)
        clipped = (max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height))
        return clipped if clipped[0] < clipped[2] and clipped[1] < clipped[3] else None  # NaN compares as absent

    def mask(self, frame: Shown) -> Bool[np.ndarray, "h w"] | None:
        box = self.box(frame)
        return None if box is None else box_mask(box, *frame.image.shape[:2])


@dataclass
class MaskRegion:
    """One mask for all frames, or one for each (``NNNNNN.png``, by the frame's index); inside is what is not black."""

    name: str
    pictures: dict[int, Path]
    always: Path | None = None
    _read: tuple[Path | None, Any] = field(default=(None, None), repr=False)

    def mask(self, frame: Shown) -> Bool[np.ndarray, "h w"] | None:
        path = self.always or self.pictures.get(frame.index)
        if path is None:
            return None
        if self._read[0] != path:
            inside = read_grey(path) > 0
            if inside.shape != frame.image.shape[:2]:
                raise InputError(
                    f"{path}: the mask of {self.name} is {inside.shape[1]}x{inside.shape[0]}, the picture "
                    f"{frame.image.shape[1]}x{frame.image.shape[0]}; scale it to the picture"
                )
            self._read = (path, inside if inside.any() else None)
        return self._read[1]

    def box(self, frame: Shown) -> Box | None:
        inside = self.mask(frame)
        if inside is None:
            return None
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


@dataclass
class TrackedRegion:
    """A box followed from its first frame on by the median flow of its points (Kalal et al., ICPR 2010); absent before.

    A grid of points is followed by Lucas and Kanade's method from frame to frame and back again. Points that come back
    elsewhere are left out; the median of the others moves the box, and the median change of their distances scales it.
    With fewer than half of the points the region is lost, and stays away: a box that nobody believes counts nothing.
    ``lost_seconds``: when that was; None where it never was.
    """

    name: str
    first: Box
    from_seconds: float = 0.0
    lost_seconds: float | None = None
    _grey: Any = field(default=None, repr=False)
    _box: Box | None = field(default=None, repr=False)
    _last: int = field(default=-1, repr=False)

    @property
    def has_begun(self) -> bool:
        """Whether a frame at ``from_seconds`` or later was seen."""
        return self._last >= 0

    def box(self, frame: Shown) -> Box | None:
        if frame.seconds < self.from_seconds - 1e-6:
            return None
        if self._last != frame.index:
            grey = cv2.cvtColor(np.ascontiguousarray(frame.image), cv2.COLOR_RGB2GRAY)
            if self._grey is None:
                self._box = self.first
            elif self._box is not None:
                self._box = followed(self._grey, grey, self._box)
                if self._box is None:
                    self.lost_seconds = frame.seconds
            self._grey, self._last = grey, frame.index
        if self._box is None:
            return None
        height, width = frame.image.shape[:2]
        left, top, right, bottom = self._box
        clipped = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
        return clipped if clipped[0] < clipped[2] and clipped[1] < clipped[3] else None

    def mask(self, frame: Shown) -> Bool[np.ndarray, "h w"] | None:
        box = self.box(frame)
        return None if box is None else box_mask(box, *frame.image.shape[:2])


def followed(before: np.ndarray, after: np.ndarray, box: Box) -> Box | None:
    """Where a box of one grey picture (h, w) is on the next; None where too few of its points are found again."""
    left, top, right, bottom = box
    steps = (np.arange(GRID) + 0.5) / GRID
    xs, ys = np.meshgrid(left + steps * (right - left), top + steps * (bottom - top))
    points = np.stack([xs.ravel(), ys.ravel()], 1).astype(np.float32)
    there, is_there, _ = cv2.calcOpticalFlowPyrLK(before, after, points, points.copy())
    back, is_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, points.copy())
    error = np.linalg.norm(back - points, axis=1)
    kept = (is_there[:, 0] == 1) & (is_back[:, 0] == 1) & (error < MOST_ERROR)
    if kept.sum() < LEAST_POINTS:
        return None
    points, there = points[kept], there[kept]
    shift = np.median(there - points, axis=0)
    scale = spread(there) / max(spread(points), 1e-6)
    x, y = (left + right) / 2 + float(shift[0]), (top + bottom) / 2 + float(shift[1])
    w, h = (right - left) * scale / 2, (bottom - top) * scale / 2
    return x - w, y - h, x + w, y + h


def spread(points: np.ndarray) -> float:
    """The median distance of points (n, 2) from their median."""
    return float(np.median(np.linalg.norm(points - np.median(points, axis=0), axis=1)))


def lost_tracks(regions: Sequence[MovingRegion], where: str) -> list[str]:
    """A line for each track that was lost in the video ``where``, or never began, once it has been measured."""
    lines = []
    for region in regions:
        if isinstance(region, TrackedRegion) and region.lost_seconds is not None:
            lines.append(
                f"{where}: {region.name} was lost at {region.lost_seconds:.2f} s and counts as absent from there on; "
                "give its boxes over time (.csv)"
            )
        elif isinstance(region, TrackedRegion) and not region.has_begun:
            lines.append(f"{where}: ends before {region.from_seconds:.2f} s, so {region.name} is never there")
    return lines


def read_regions(rois: Sequence[str], tracks: Sequence[str], video: str | Path | Source) -> list[MovingRegion]:
    """The regions of ``--roi`` and ``--track``; :class:`InputError` for what cannot be, or a name given twice."""
    source = video if isinstance(video, Source) else open_source(video)
    regions = [read_roi(text, source) for text in rois] + [read_track(text, source) for text in tracks]
    names = [region.name for region in regions]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--roi {name}: two regions have this name; give each its own")
    if not regions:
        raise InputError(f"{source.name}: no region; give --roi NAME=left,top,right,bottom or --track")
    return regions


def read_roi(text: str, source: Source) -> MovingRegion:
    """``NAME=left,top,right,bottom`` (fractions, or pixels where one is above 1), ``NAME=BOXES.csv``, ``NAME=MASK.png``
    or ``NAME=FOLDER`` of masks named by frame."""
    name, _, given = text.partition("=")
    if not name or not given:
        raise InputError(f"--roi {text}: expected NAME=left,top,right,bottom, NAME=BOXES.csv or NAME=MASKS")
    path = Path(given)
    if path.is_dir():
        pictures = numbered_pictures(path)
        if not pictures:
            raise InputError(f"{path}: holds no numbered masks; expected NNNNNN.png, the frame counted from 0")
        return MaskRegion(name, {n: p for p in pictures if (n := trailing_number(p.stem)) is not None})
    if path.name.lower().endswith(tables.SUFFIXES):
        return _read_boxes(name, path, source)
    if len(given.split(",")) == 4:
        return BoxRegion(name, np.zeros(1), np.array([_box(given, f"--roi {text}", source)]))
    if not path.is_file():
        raise InputError(f"--roi {text}: no such file, and not left,top,right,bottom; check the name")
    return MaskRegion(name, {}, path)


def read_track(text: str, source: Source) -> TrackedRegion:
    """``NAME=left,top,right,bottom[@SECONDS]``: the box on the frame at that time, from which it is followed."""
    name, _, given = text.partition("=")
    numbers, _, at = given.partition("@")
    try:
        seconds = float(at or 0)
    except ValueError:
        seconds = -1.0
    if not name or len(numbers.split(",")) != 4 or not 0 <= seconds < float("inf"):
        raise InputError(f"--track {text}: expected NAME=left,top,right,bottom@SECONDS")
    return TrackedRegion(name, _box(numbers, f"--track {text}", source), seconds)


def _box(text: str, where: str, source: Source) -> Box:
    try:
        left, top, right, bottom = (float(v) for v in text.split(","))
    except ValueError:
        raise InputError(f"{where}: expected four numbers, left,top,right,bottom") from None
    if not (left < right and top < bottom):
        raise InputError(f"{where}: expected left < right and top < bottom")
    if max(abs(v) for v in (left, top, right, bottom)) <= 1:
        left, right, top, bottom = (
            left * source.width,
            right * source.width,
            top * source.height,
            bottom * source.height,
        )
    if left < 0 or top < 0 or right > source.width or bottom > source.height:
        raise InputError(
            f"{where}: reaches outside the picture of {source.width}x{source.height}; numbers up to 1 are "
            "fractions, others pixels"
        )
    if not box_mask((left, top, right, bottom), source.height, source.width).any():
        raise InputError(f"{where}: is smaller than a pixel; numbers up to 1 are fractions, others pixels")
    return left, top, right, bottom


def _read_boxes(name: str, path: Path, source: Source) -> BoxRegion:
    """A table with ``seconds`` (or ``frame``) and ``left,top,right,bottom``; empty boxes: absent from there on."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the name")
    clock, rows = "seconds", []
    for row in tables.read_rows(path, (("seconds", "frame"), *BOX_COLUMNS)):
        clock = "seconds" if "seconds" in row.cells else "frame"
        rows.append([tables.number_or_lost(row, column, path) for column in (clock, *BOX_COLUMNS)])
    table = np.array(rows, float).reshape(-1, 5)
    if not len(table) or np.isnan(table[:, 0]).any() or (np.diff(table[:, 0]) <= 0).any():
        raise InputError(f"{path}: expected at least one row, and {clock} that increase from row to row")
    boxes = table[:, 1:]
    if np.nanmax(np.abs(boxes), initial=0) <= 1:
        boxes = boxes * np.array([source.width, source.height] * 2)
    shown = boxes[~np.isnan(boxes).any(1)]
    if not ((shown[:, 0] < shown[:, 2]) & (shown[:, 1] < shown[:, 3])).all():
        raise InputError(f"{path}: a row has left >= right or top >= bottom")
    size = np.array([source.width, source.height])
    if not ((shown[:, :2] < size) & (shown[:, 2:] > 0)).all(1).any():
        raise InputError(f"{path}: every box of {name} lies outside the picture of {source.width}x{source.height}")
    seconds = table[:, 0] if clock == "seconds" else table[:, 0] / source.frame_rate
    return BoxRegion(name, seconds, boxes)
