"""``diffsal thumbnail``: the frames in which attention is most in one place, and fit to be shown alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from diffsal.decisions.cut_detection import CutDetector
from diffsal.decisions.exports import write_json
from diffsal.errors import InputError
from diffsal.media.pictures import write_picture
from diffsal.media.source import Source, open_source
from diffsal.outputs.attention import GRID, entropy_bits, on_grid
from diffsal.outputs.panels import Panel, figure, write_figure
from diffsal.prediction.pipeline import predict

SCHEMA, VERSION = "diffsal.thumbnails", 1
WINDOW = (14, 24)  # rows and columns of the grid: a quarter of the picture's height and width
SHARP_WIDTH = 640  # pixels: sharpness is measured on pictures of at most this width
LEAST_SHARPNESS = 25.0  # variance of the Laplacian, grey levels squared, in the window: less is blurred
LEAST_OF_SHOT = 0.6  # of the median sharpness of its shot: less is blurred
LEAST_BRIGHTNESS, LEAST_CONTRAST = 24.0, 10.0  # mean and standard deviation, grey levels: less is black, or a fade
CUT_SECONDS = 0.25  # on either side of a cut, in which nothing is chosen
APART_SECONDS = 2.0  # between two of one shot; less where the video is short
COLUMNS, WINDOW_COLOUR = 3, (255, 255, 255)  # of the contact picture


@dataclass(frozen=True)
class Candidate:
    """One frame. ``share``: of attention in the window that holds most, 0 to 1: the score. ``entropy_bits``: the map's.

    ``window``: left, top, right, bottom, fractions. ``sharpness``: variance of the Laplacian in the window.
    ``brightness``, ``contrast``: mean and standard deviation of the picture's grey levels.
    """

    index: int
    seconds: float
    share: float
    entropy_bits: float
    window: tuple[float, float, float, float]
    sharpness: float
    brightness: float
    contrast: float


@dataclass(frozen=True)
class Thumbnail:
    """A chosen frame: its rank, 1 the best; the shot it is from, from 0; ``fit``: whether it passed every test."""

    rank: int
    shot: int
    frame: Candidate
    fit: bool


@dataclass(frozen=True)
class Thumbnails:
    """What was chosen, best first; ``left_out``: reason → number of frames that failed that test."""

    source: str
    width: int
    height: int
    num_frames: int
    num_shots: int
    left_out: dict[str, int]
    chosen: list[Thumbnail] = field(default_factory=list)


def find_thumbnails(
    model: Any,
    video: str | Path | Source,
    count: int = 5,
    *,
    on_frame: Callable[[int], None] | None = None,
    **predicting: Any,
) -> Thumbnails:
    """The ``count`` frames of ``video`` in which most of the attention lies in one window of a quarter of the picture's
    width and height (a sixteenth of its area); fewer where the video has fewer.

    Left out are frames that are black or blurred, and those within ``CUT_SECONDS`` of a cut. Every shot gives one
    before any gives two. ``predicting``: settings of :func:`diffsal.predict`. Memory grows by 0.5 KB a frame. Raises
    :class:`InputError` for a camera, a count below 1, or what cannot be read.
    """
    source = video if isinstance(video, Source) else open_source(video)
    if source.camera is not None:
        raise InputError(f"{source.name}: a camera has no end; record it first")
    if count < 1:
        raise InputError(f"count is {count}, expected at least 1 frame")
    cuts, candidates = CutDetector(), []
    for prediction in predict(model, source, **predicting):
        cuts.add(prediction.image)
        candidates.append(look_at(prediction.index, prediction.seconds, prediction.image, prediction.saliency))
        if on_frame:
            on_frame(len(candidates))
    shots = np.searchsorted(cuts.close(), np.arange(len(candidates)), side="right")
    reasons = unfit(candidates, shots)
    return Thumbnails(
        source.name,
        source.width,
        source.height,
        len(candidates),
        len(cuts.cuts) + 1,
        dict(Counter(reason for found in reasons for reason in found)),
        choose(candidates, shots, [not found for found in reasons], count),
    )


def densest_window(cells: Float[np.ndarray, "54 96"]) -> tuple[float, tuple[float, float, float, float]]:
    """The largest share in a window of 14×24 cells, and that window: left, top, right, bottom, fractions."""
    sums = cv2.integral(cells, sdepth=cv2.CV_64F)
    height, width = WINDOW
    shares = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = (int(i) for i in np.unravel_index(int(shares.argmax()), shares.shape))
    rows, columns = GRID
    return float(shares[top, left]), (left / columns, top / rows, (left + width) / columns, (top + height) / rows)


def look_at(
    index: int, seconds: float, image: UInt8[np.ndarray, "h w 3"], saliency: Float[np.ndarray, "h w"]
) -> Candidate:
    """A frame's measures; sharpness is that of the window, so that a blurred ground does not count."""
    share, window = densest_window(on_grid(saliency))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if grey.shape[1] > SHARP_WIDTH:
        height = max(1, round(SHARP_WIDTH * grey.shape[0] / grey.shape[1]))
        grey = cv2.resize(grey, (SHARP_WIDTH, height), interpolation=cv2.INTER_AREA)
    left, top, right, bottom = in_pixels(window, grey.shape[1], grey.shape[0])
    sharpness = cv2.Laplacian(grey[top:bottom, left:right], cv2.CV_32F).var()
    mean, deviation = cv2.meanStdDev(grey)
    return Candidate(
        index,
        seconds,
        share,
        entropy_bits(saliency),
        window,
        float(sharpness),
        float(mean[0, 0]),
        float(deviation[0, 0]),
    )


def in_pixels(window: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a window in pixels; never empty."""
    left, top = int(window[0] * width), int(window[1] * height)
    return left, top, max(left + 1, round(window[2] * width)), max(top + 1, round(window[3] * height))


def unfit(candidates: Sequence[Candidate], shots: Sequence[int] | np.ndarray) -> list[list[str]]:
    """Why each frame is not to be shown: ``black``, ``blurred``, ``near a cut``; empty where it is fit."""
    shots, seconds = np.asarray(shots), np.array([c.seconds for c in candidates])
    sharpness = np.array([c.sharpness for c in candidates])
    medians = {int(shot): float(np.median(sharpness[shots == shot])) for shot in np.unique(shots)}
    cut_times = seconds[1:][np.diff(shots) > 0]
    reasons: list[list[str]] = []
    for candidate, shot in zip(candidates, shots, strict=True):
        found = []
        if candidate.brightness < LEAST_BRIGHTNESS or candidate.contrast < LEAST_CONTRAST:
            found.append("black")
        if candidate.sharpness < max(LEAST_SHARPNESS, LEAST_OF_SHOT * medians[int(shot)]):
            found.append("blurred")
        if len(cut_times) and np.abs(cut_times - candidate.seconds).min() < CUT_SECONDS:
            found.append("near a cut")
        reasons.append(found)
    return reasons


def choose(
    candidates: Sequence[Candidate], shots: Sequence[int] | np.ndarray, fit: Sequence[bool], count: int
) -> list[Thumbnail]:
    """The best by share: one of each shot before a second of any, apart in time; unfit ones only where none is fit."""
    passing = list(fit) if any(fit) else [True] * len(candidates)
    order = sorted((i for i, fits in enumerate(passing) if fits), key=lambda i: -candidates[i].share)
    length = candidates[-1].seconds - candidates[0].seconds if candidates else 0.0
    apart = min(APART_SECONDS, length / (2 * count))
    taken: list[int] = []
    for most in range(1, count + 1):  # of one shot
        for i in order:
            if len(taken) == count:
                break
            here = sum(shots[j] == shots[i] for j in taken)
            near = any(abs(candidates[j].seconds - candidates[i].seconds) < apart for j in taken)
            if i not in taken and here < most and not near:
                taken.append(i)
    taken.sort(key=lambda i: -candidates[i].share)
    return [Thumbnail(rank + 1, int(shots[i]), candidates[i], fit[i]) for rank, i in enumerate(taken)]


def pictures(found: Thumbnails, source: Source) -> Iterator[tuple[Thumbnail, UInt8[np.ndarray, "h w 3"]]]:
    """The chosen frames as they are, in order of time, pixels square; reads the source again."""
    wanted = {thumbnail.frame.index: thumbnail for thumbnail in found.chosen}
    for frame in source.frames():
        thumbnail = wanted.pop(frame.index, None)
        if thumbnail is not None:
            pixel, (height, width) = source.sample_aspect_ratio, frame.image.shape[:2]
            square = frame.image if pixel == 1 else cv2.resize(frame.image, (max(1, round(width * pixel)), height))
            yield thumbnail, square
        if not wanted:
            return


def write_thumbnails(found: Thumbnails, source: Source, folder: Path, ending: str = ".jpg") -> None:
    """``thumbnail-1.jpg`` (the best) and so on, ``sheet.jpg`` with all of them and their scores, ``thumbnails.json``.

    Pictures of these names from an earlier run go; nothing else in the folder is touched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in [f for kind in (".jpg", ".png") for f in folder.glob(f"thumbnail-*{kind}")]:
        name.unlink()
    shown: dict[int, UInt8[np.ndarray, "h w 3"]] = {}
    for thumbnail, image in pictures(found, source):
        write_picture(folder / file_name(thumbnail, ending), image)
        shown[thumbnail.rank] = draw_window(image, thumbnail.frame.window)
    panels = [
        Panel(shown[t.rank], f"{t.rank}: {t.frame.seconds:.2f} s", f"{t.frame.share:.0%} of attention in the box")
        for t in found.chosen
        if t.rank in shown
    ]
    rows = [panels[i : i + COLUMNS] for i in range(0, len(panels), COLUMNS)]
    note = "The box is a quarter of the picture's width and height, where it holds most attention."
    write_figure(folder / f"sheet{ending}", figure(rows, Path(found.source).name, [note]))
    write_json(folder / "thumbnails.json", as_document(found, ending))


def write_best(found: Thumbnails, source: Source, place: Path) -> None:
    """The best frame alone, in the format of the ending of ``place``."""
    for thumbnail, image in pictures(found, source):
        if thumbnail.rank == 1:
            write_picture(place, image)


def file_name(thumbnail: Thumbnail, ending: str) -> str:
    return f"thumbnail-{thumbnail.rank}{ending}"


def draw_window(
    image: UInt8[np.ndarray, "h w 3"], window: tuple[float, float, float, float]
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture, at most 640 wide, with the window that holds most attention drawn in."""
    width = min(SHARP_WIDTH, image.shape[1])
    height = max(1, round(width * image.shape[0] / image.shape[1]))
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    left, top, right, bottom = in_pixels(window, width, height)
    thick = max(1, width // 200)
    cv2.rectangle(small, (left, top), (right - 1, bottom - 1), (0, 0, 0), thick + 2)
    cv2.rectangle(small, (left, top), (right - 1, bottom - 1), WINDOW_COLOUR, thick)
    return small


def as_document(found: Thumbnails, ending: str) -> dict[str, Any]:
    """Schema ``diffsal.thumbnails`` version 1, as docs/decisions.md describes it."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "source": Path(found.source).name,
        "width": found.width,
        "height": found.height,
        "frames": found.num_frames,
        "shots": found.num_shots,
        "left_out": found.left_out,
        "thumbnails": [
            {
                "rank": t.rank,
                "file": file_name(t, ending),
                "index": t.frame.index,
                "seconds": round(t.frame.seconds, 6),
                "shot": t.shot,
                "share": round(t.frame.share, 5),
                "entropy_bits": round(t.frame.entropy_bits, 4),
                "window": [round(x, 5) for x in t.frame.window],
                "sharpness": round(t.frame.sharpness, 1),
                "fit": t.fit,
            }
            for t in found.chosen
        ],
    }
