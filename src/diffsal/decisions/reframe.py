"""``diffsal reframe``: a video cropped to where people look; this plans the crop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from diffsal.decisions.crop_path import Face, PathSettings, shot_path, steps_of
from diffsal.decisions.cut_detection import CutDetector
from diffsal.errors import InputError
from diffsal.media.source import Frame, Source, open_source
from diffsal.prediction.pipeline import predict

BINS = 192  # along the side on which the crop moves
LEAST_PIXELS = 16  # of a crop's side
DETECT_SECONDS = 0.2  # between two frames in which faces are looked for
STILL_SPEED = 0.002  # sides per second: slower is constant


@dataclass(frozen=True)
class CropPath:
    """A crop of one size, and where it stands on every frame.

    ``width``, ``height``: of the source's picture, coded pixels. ``crop_width``, ``crop_height``: of the crop.
    ``index``, ``seconds``: of the frames. ``left``, ``top``: of the crop on each, float pixels. ``attention``: the
    share of attention inside. ``shots``: the position of each shot's first frame in these lists, from 0.
    ``faces``: per frame, those found on it: left, top, right, bottom in pixels, and their share of attention.
    """

    source: str
    width: int
    height: int
    frame_rate: float
    aspect: Fraction
    sample_aspect_ratio: Fraction
    crop_width: int
    crop_height: int
    settings: PathSettings
    index: list[int]
    seconds: list[float]
    left: list[float]
    top: list[float]
    attention: list[float]
    shots: list[int]
    faces: list[list[tuple[float, float, float, float, float]]] = field(repr=False)

    @property
    def horizontal(self) -> bool:
        """Whether the crop moves from side to side; otherwise up and down."""
        return self.crop_width < self.width

    def moves(self) -> list[dict[str, Any]]:
        """The path in words: per shot, constants and pans, each with its first and last position in the lists."""
        where = np.array(self.left if self.horizontal else self.top)
        side = self.width if self.horizontal else self.height
        speeds = np.abs(np.diff(where)) / side / np.maximum(np.diff(self.seconds), 1e-6)
        found: list[dict[str, Any]] = []
        for shot, (first, end) in enumerate(zip(self.shots, [*self.shots[1:], len(where)], strict=True)):
            at = first
            for moving, steps in groupby(speeds[first : end - 1] > STILL_SPEED):
                last = at + len(list(steps))
                found.append({"kind": "pan" if moving else "constant", "shot": shot, "first": at, "last": last})
                at = last
            if end - first == 1:
                found.append({"kind": "constant", "shot": shot, "first": first, "last": first})
        return found


def parse_aspect(text: str) -> Fraction:
    """``9:16``, ``9/16``, ``9x16`` or ``0.5625`` → width over height. :class:`InputError` for anything else."""
    parts = text.replace("/", ":").replace("x", ":").split(":")
    try:
        numbers = [Fraction(part) for part in parts]
        if len(numbers) not in (1, 2) or min(numbers) <= 0:
            raise ValueError
        aspect = numbers[0] / numbers[1] if len(numbers) == 2 else numbers[0]
    except (ValueError, ZeroDivisionError):
        raise InputError(f"aspect {text}: expected width:height, such as 9:16, 1:1 or 4:5") from None
    return aspect


def crop_size(source: Source, aspect: Fraction) -> tuple[int, int]:
    """Width and height of the largest crop of this aspect, in the source's coded pixels, both even.

    Raises :class:`InputError` where nothing is to be cropped, or less than ``LEAST_PIXELS`` would be left.
    """
    width, height, pixel = source.width, source.height, source.sample_aspect_ratio
    shown = Fraction(width, height) * pixel
    if abs(float(aspect / shown) - 1) < 2 / min(width, height):
        raise InputError(f"{source.name}: is {float(shown):.3g}:1 already, as wide as --aspect asks; nothing to crop")
    if aspect < shown:
        crop = (2 * round(float(height * aspect / pixel) / 2), height - height % 2)
    else:
        crop = (width - width % 2, 2 * round(float(width * pixel / aspect) / 2))
    if min(crop) < LEAST_PIXELS:
        raise InputError(
            f"{source.name}: aspect {aspect} leaves a crop of {crop[0]}x{crop[1]} of {width}x{height} pixels; "
            f"each side needs {LEAST_PIXELS}"
        )
    return crop


def plan_crop(
    model: Any,
    video: str | Path | Source,
    aspect: str | Fraction = "9:16",
    *,
    settings: PathSettings = PathSettings(),  # noqa: B008  (frozen)
    faces: bool = True,
    on_frame: Callable[[int], None] | None = None,
    **predicting: Any,
) -> CropPath:
    """Where a crop of ``aspect`` (width over height) should stand on every frame of ``video``.

    ``predicting``: settings of :func:`diffsal.predict`. ``on_frame`` is called with the number of frames done. Memory
    grows by 0.5 KB a frame. Raises :class:`InputError` for an aspect that cannot be, a camera, or what cannot be read.
    """
    source = video if isinstance(video, Source) else open_source(video)
    if source.camera is not None:
        raise InputError(f"{source.name}: a camera cannot be reframed; record it first")
    aspect = parse_aspect(aspect) if isinstance(aspect, str) else aspect
    crop = crop_size(source, aspect)
    watched = watch(model, source, horizontal=crop[0] < source.width, faces=faces, on_frame=on_frame, **predicting)
    return solve(source, aspect, crop, settings, watched)


def watch(
    model: Any,
    source: Source,
    *,
    horizontal: bool,
    faces: bool = True,
    on_frame: Callable[[int], None] | None = None,
    **predicting: Any,
) -> Watched:
    """One pass over the video: its attention along one side, its cuts and its faces."""
    watched = Watched(horizontal, faces)
    for prediction in predict(model, source, **predicting):
        watched.add(prediction)
        if on_frame:
            on_frame(len(watched.seconds))
    watched.cuts.close()
    return watched


class Watched:
    """What a plan keeps of each frame."""

    def __init__(self, horizontal: bool, faces: bool) -> None:
        self.horizontal = horizontal
        self.detector = _face_detector() if faces else None
        self.cuts = CutDetector()
        self.index: list[int] = []
        self.seconds: list[float] = []
        self.profiles: list[np.ndarray] = []  # float16 (bins,), each sums to 1
        self.faces: list[list[tuple[float, float, float, float, float]] | None] = []  # None: not looked for
        self.looked = -np.inf

    def add(self, prediction: Any) -> None:
        self.index.append(prediction.index)
        self.seconds.append(prediction.seconds)
        self.profiles.append(profile(prediction.saliency, self.horizontal).astype(np.float16))
        self.cuts.add(prediction.image)
        found = None
        if self.detector is not None and prediction.seconds - self.looked >= DETECT_SECONDS - 1e-6:
            self.looked = prediction.seconds
            found = faces_with_attention(self.detector, prediction.image, prediction.saliency)
        self.faces.append(found)


def profile(saliency: Float[np.ndarray, "h w"], horizontal: bool = True) -> Float[np.ndarray, " bins"]:
    """Attention along one side of the picture, at most 192 bins, which sum to 1; even where the map is 0."""
    line = cv2.reduce(np.ascontiguousarray(saliency, np.float32), 0 if horizontal else 1, cv2.REDUCE_SUM).reshape(1, -1)
    if line.shape[1] > BINS:
        line = cv2.resize(line, (BINS, 1), interpolation=cv2.INTER_AREA)
    total = float(line.sum())
    return line[0] / total if total > 0 else np.full(line.shape[1], 1 / line.shape[1], np.float32)


def faces_with_attention(
    detector: Any, image: UInt8[np.ndarray, "h w 3"], saliency: Float[np.ndarray, "h w"]
) -> list[tuple[float, float, float, float, float]]:
    """The faces of a picture: left, top, right, bottom in pixels, and the share of attention on each."""
    total, found = max(float(saliency.sum()), 1e-12), []
    for left, top, width, height in detector.detect(image)[:, :4].tolist():
        box = (max(left, 0.0), max(top, 0.0), min(left + width, image.shape[1]), min(top + height, image.shape[0]))
        rows, columns = slice(int(box[1]), int(np.ceil(box[3]))), slice(int(box[0]), int(np.ceil(box[2])))
        found.append((*box, float(saliency[rows, columns].sum()) / total))
    return found


def _face_detector() -> Any:
    """The package's face detector; None in a package that carries none."""
    try:
        faces = import_module("diffsal.prediction.faces")
    except ModuleNotFoundError:
        return None
    return faces.FaceDetector()


def solve(
    source: Source, aspect: Fraction, crop: tuple[int, int], settings: PathSettings, watched: Watched
) -> CropPath:
    """The path of a crop of this size (width, height) through what was watched."""
    horizontal, count = watched.horizontal, len(watched.seconds)
    shots = [0, *watched.cuts.cuts]
    side = source.width if horizontal else source.height
    size = crop[0 if horizontal else 1] / side
    where, inside, faces = np.zeros(count), np.zeros(count), []
    for first, end in zip(shots, [*shots[1:], count], strict=True):
        found = _held(watched.faces[first:end])
        along = [[_along(box, horizontal, side) for box in boxes] for boxes in found]
        profiles = np.stack(watched.profiles[first:end]).astype(np.float32)
        profiles /= profiles.sum(1, keepdims=True)
        where[first:end] = shot_path(
            np.array(watched.seconds[first:end]), profiles, along, size, settings, steps_of(side)
        )
        inside[first:end] = _inside(profiles, where[first:end], size)
        faces.extend(found)
    pixels = np.clip(where * side, 0, side - crop[0 if horizontal else 1])
    middle = (source.height - crop[1]) / 2 if horizontal else (source.width - crop[0]) / 2
    across = [float(int(middle))] * count
    along_pixels = [round(float(x), 3) for x in pixels]
    return CropPath(
        source.name,
        source.width,
        source.height,
        source.frame_rate,
        aspect,
        source.sample_aspect_ratio,
        *crop,
        settings,
        watched.index,
        watched.seconds,
        along_pixels if horizontal else across,
        across if horizontal else along_pixels,
        [round(float(x), 5) for x in inside],
        shots,
        faces,
    )


def _inside(profiles: np.ndarray, where: np.ndarray, size: float) -> np.ndarray:
    """The share of each profile between ``where`` and ``where + size``, (n,)."""
    bins = profiles.shape[1]
    cumulative = np.concatenate([np.zeros((len(profiles), 1)), np.cumsum(profiles, 1)], 1)
    edges = np.arange(bins + 1) / bins
    return np.array(
        [np.interp(x + size, edges, c) - np.interp(x, edges, c) for x, c in zip(where, cumulative, strict=True)]
    )


def _along(box: tuple[float, float, float, float, float], horizontal: bool, side: int) -> Face:
    ends = (box[0], box[2]) if horizontal else (box[1], box[3])
    return Face(ends[0] / side, ends[1] / side, box[4])


def _held(found: list[list | None]) -> list[list]:
    """Faces of frames in which none were looked for: those of the last one in the shot that was, or of the first."""
    first = next((faces for faces in found if faces is not None), [])
    held, last = [], first
    for faces in found:
        last = last if faces is None else faces
        held.append(last)
    return held


def cut_out(frame: Frame, path: CropPath, position: int) -> UInt8[np.ndarray, "h w 3"]:
    """The crop of a frame, between pixels where it moves: cubic interpolation, so that slow pans do not jerk."""
    left, top = path.left[position], path.top[position]
    width, height = path.crop_width, path.crop_height
    if abs(left - round(left)) < 0.02 and abs(top - round(top)) < 0.02:
        return np.ascontiguousarray(frame.image[round(top) : round(top) + height, round(left) : round(left) + width])
    low, high = int(left), int(top)
    part = frame.image[high : high + height + 1, low : low + width + 1]
    shift = np.array([[1, 0, low - left], [0, 1, high - top]], np.float32)
    return cv2.warpAffine(part, shift, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
