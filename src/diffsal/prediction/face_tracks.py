"""Faces followed through a video on a clock of 25 moments a second: boxes linked, smoothed, and cropped for LR-ASD."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

import cv2
import numpy as np
from numpy import ndarray

from diffsal.config import FACE_CROP_SIDE, FACE_CROPS
from diffsal.shapes import Float, UInt8

MOMENTS_PER_SECOND = 25  # LR-ASD's clock
DETECT_EVERY = FACE_CROPS  # moments: 0.2 s
LEAST_SHARED = 0.3  # of two boxes, as intersection over union, to be the same face
MISSES = 3  # detections in a row without its face that end a track
MOST_FACES = 6  # at once, the largest
SMOOTHED = 13  # boxes whose median is taken
BORDER = 110  # grey, outside the picture
CUT_SIZE = (32, 18)
CUT_CHANGE = 25.0  # mean change of brightness, of 255, between two frames that is a cut


@dataclass(eq=False)
class FaceTrack:
    """One face from where it appears: its number, first moment, and the boxes that its median is taken over."""

    number: int
    start: int
    box: Float[ndarray, "5"]  # left, top, width, height, confidence, of the last detection
    misses: int = 0
    recent: deque[tuple[float, float, float]] = field(default_factory=lambda: deque(maxlen=SMOOTHED))

    def hold(self) -> None:
        """The face stays where it was found last for one more moment."""
        left, top, width, height = self.box[:4]
        self.recent.append((left + width / 2, top + height / 2, max(width, height) / 2))

    @property
    def place(self) -> tuple[float, float, float]:
        """The centre (x, y) and half the larger side, in pixels: medians of the last boxes."""
        x, y, half = (float(median(values)) for values in zip(*self.recent, strict=True))
        return x, y, half


class FaceTracks:
    """Tracks that live now. Feed detections every :data:`DETECT_EVERY` moments, and each moment in between."""

    def __init__(self) -> None:
        self.live: list[FaceTrack] = []
        self.begun = 0

    def end_all(self) -> None:
        self.live = []

    def link(self, moment: int, boxes: Float[ndarray, "faces 5"]) -> None:
        """Give each box to the live track that it shares most with; the others begin tracks."""
        largest = np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")[:MOST_FACES]
        boxes = boxes[np.sort(largest)]
        shared = overlaps(np.array([t.box for t in self.live]).reshape(-1, 5), boxes)
        free_tracks, free_boxes = set(range(len(self.live))), set(range(len(boxes)))
        for at in np.argsort(-shared, axis=None, kind="stable"):
            track, box = divmod(int(at), len(boxes))
            if shared[track, box] < LEAST_SHARED:
                break
            if track in free_tracks and box in free_boxes:
                free_tracks.remove(track)
                free_boxes.remove(box)
                self.live[track].box, self.live[track].misses = boxes[box], 0
        for track in free_tracks:
            self.live[track].misses += 1
        self.live = [t for t in self.live if t.misses < MISSES]
        for box in sorted(free_boxes):
            if len(self.live) < MOST_FACES:
                self.begun += 1
                self.live.append(FaceTrack(self.begun, moment, boxes[box]))

    def hold(self) -> None:
        """One more moment for every live track."""
        for track in self.live:
            track.hold()


class Cuts:
    """Tells where one shot ends and another begins, from frame to frame."""

    def __init__(self) -> None:
        self.before: Float[ndarray, "h w"] | None = None

    def is_first_of_shot(self, image: UInt8[ndarray, "h w 3"]) -> bool:
        """Whether the picture differs from the one before as only another shot's does."""
        here = cv2.resize(image, CUT_SIZE, interpolation=cv2.INTER_AREA).mean(axis=2)
        before, self.before = self.before, here
        return before is not None and float(np.abs(here - before).mean()) > CUT_CHANGE


def overlaps(a: Float[ndarray, "n 5"], b: Float[ndarray, "m 5"]) -> Float[ndarray, "n m"]:
    """Intersection over union of boxes given by left, top, width, height."""
    first = np.maximum(a[:, None, :2], b[None, :, :2])
    last = np.minimum(a[:, None, :2] + a[:, None, 2:4], b[None, :, :2] + b[None, :, 2:4])
    both = (last - first).clip(min=0).prod(axis=2)
    either = a[:, None, 2:4].prod(axis=2) + b[None, :, 2:4].prod(axis=2) - both
    return both / np.maximum(either, 1e-9)


def crop_face(image: UInt8[ndarray, "h w 3"], place: tuple[float, float, float]) -> Float[ndarray, "112 112"]:
    """The face as LR-ASD sees it, grey from 0 to 255.

    Of the square from 1 half-size above the centre to 1.8 below it and 1.4 to each side, the middle: 1.4 half-sizes.
    """
    x, y, half = place
    side = 1.4 * half
    left, top = x - side / 2, y - 0.3 * half
    height, width = image.shape[:2]
    first = (max(0, int(left) - 2), max(0, int(top) - 2))
    last = (min(width, int(left + side) + 3), min(height, int(top + side) + 3))
    if first[0] >= last[0] or first[1] >= last[1]:
        return np.full((FACE_CROP_SIDE, FACE_CROP_SIDE), BORDER, np.float32)
    grey = cv2.cvtColor(np.ascontiguousarray(image[first[1]:last[1], first[0]:last[0]]), cv2.COLOR_RGB2GRAY)
    left, top, shrink = left - first[0], top - first[1], 1
    if side > 2 * FACE_CROP_SIDE:  # bilinear enlargement alone would skip pixels
        shrink = int(side // FACE_CROP_SIDE)
        size = (max(1, grey.shape[1] // shrink), max(1, grey.shape[0] // shrink))
        scale = (size[0] / grey.shape[1], size[1] / grey.shape[0])
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    else:
        scale = (1.0, 1.0)
    zoom = np.array([FACE_CROP_SIDE / side / scale[0], FACE_CROP_SIDE / side / scale[1]])
    shift = -np.array([left * scale[0], top * scale[1]]) * zoom + (zoom - 1) / 2
    matrix = np.array([[zoom[0], 0, shift[0]], [0, zoom[1], shift[1]]])
    crop = cv2.warpAffine(grey, matrix, (FACE_CROP_SIDE, FACE_CROP_SIDE), flags=cv2.INTER_LINEAR, borderValue=BORDER)
    return crop.astype(np.float32)
