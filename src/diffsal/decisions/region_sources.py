"""Regions that move: fixed boxes, boxes over time from a table, masks per frame, and tracks from a first box."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from jaxtyping import Bool, Float

from diffsal.errors import InputError
from diffsal.media.pictures import read_grey
from diffsal.media.source import Frame, Source, numbered_pictures

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
BOX_COLUMNS = ("left", "top", "right", "bottom")


class MovingRegion(Protocol):
    """A named region: where it is on a frame, if it is there at all."""

    name: str

    def mask(self, frame: Frame) -> Bool[np.ndarray, "h w"] | None:
        """Which pixels of the frame lie in it; None where it is not in the picture."""

    def box(self, frame: Frame) -> Box | None:
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

    def box(self, frame: Frame) -> Box | None:
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

    def mask(self, frame: Frame) -> Bool[np.ndarray, "h w"] | None:
        box = self.box(frame)
        return None if box is None else box_mask(box, *frame.image.shape[:2])


@dataclass
class MaskRegion:
    """One mask for all frames, or one for each (``NNNNNN.png``, by the frame's index); inside is what is not black."""

    name: str
    pictures: dict[int, Path]
    always: Path | None = None
    _read: tuple[Path | None, Any] = field(default=(None, None), repr=False)

    def mask(self, frame: Frame) -> Bool[np.ndarray, "h w"] | None:
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

    def box(self, frame: Frame) -> Box | None:
        inside = self.mask(frame)
        if inside is None:
            return None
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


@dataclass
class TrackedRegion:
    """A box followed from its first frame on by OpenCV's MIL tracker (Babenko et al., 2009); absent before."""

    name: str
    first: Box
    from_seconds: float = 0.0
    _tracker: Any = field(default=None, repr=False)
    _last: tuple[int, Box | None] = field(default=(-1, None), repr=False)

    def box(self, frame: Frame) -> Box | None:
        if frame.seconds < self.from_seconds - 1e-6:
            return None
        if self._last[0] == frame.index:
            return self._last[1]
        height, width = frame.image.shape[:2]
        image = np.ascontiguousarray(frame.image[..., ::-1])
        if self._tracker is None:
            left, top, right, bottom = (round(v) for v in self.first)
            cv2.setRNGSeed(0)  # MIL samples at random: the same video gives the same boxes
            self._tracker = cv2.TrackerMIL.create()
            self._tracker.init(image, (left, top, max(1, right - left), max(1, bottom - top)))
            found: Box | None = self.first
        else:
            is_found, (x, y, w, h) = self._tracker.update(image)
            clipped = (max(float(x), 0.0), max(float(y), 0.0), min(float(x + w), width), min(float(y + h), height))
            found = clipped if is_found and clipped[0] < clipped[2] and clipped[1] < clipped[3] else None
        self._last = (frame.index, found)
        return found

    def mask(self, frame: Frame) -> Bool[np.ndarray, "h w"] | None:
        box = self.box(frame)
        return None if box is None else box_mask(box, *frame.image.shape[:2])


def read_regions(rois: Sequence[str], tracks: Sequence[str], source: Source) -> list[MovingRegion]:
    """The regions of ``--roi`` and ``--track``; :class:`InputError` for what cannot be, or a name given twice."""
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
        return MaskRegion(name, {int("".join(c for c in p.stem[-12:] if c.isdigit())): p for p in pictures})
    if path.suffix.lower() == ".csv":
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
    return left, top, right, bottom


def _read_boxes(name: str, path: Path, source: Source) -> BoxRegion:
    """A table with ``seconds`` (or ``frame``) and ``left,top,right,bottom``; empty boxes: absent from there on."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            clock = "seconds" if "seconds" in columns else "frame"
            missing = [c for c in (clock, *BOX_COLUMNS) if c not in columns]
            if missing:
                raise InputError(f"{path}: no column {', '.join(missing)}; expected seconds,left,top,right,bottom")
            rows = [[float(row[c] or "nan") for c in (clock, *BOX_COLUMNS)] for row in reader]
    except (OSError, ValueError, csv.Error, UnicodeDecodeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not boxes ({error}); expected numbers, or empty where absent") from None
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
