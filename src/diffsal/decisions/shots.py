"""``diffsal shots``: per shot, when the eye arrives, how far it had to go, and how much in one place it stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from diffsal.decisions.cut_detection import CutDetector
from diffsal.decisions.exports import write_json
from diffsal.errors import InputError
from diffsal.files import write_csv
from diffsal.media.source import Source, open_source
from diffsal.outputs.attention import GRID, entropy_bits, on_grid
from diffsal.prediction.pipeline import predict

SCHEMA, VERSION = "diffsal.shots", 1
RESTING_WIDTHS = 0.05  # of the picture: this near to one place the centroid rests
RESTING_SECONDS = 0.5  # that it must stay there
SHOWN_SECONDS = 0.5  # into a shot: the frame that stands for it
STRIP_WIDTH = 240  # pixels
BLACK = 48  # mean level of a picture that shows little: a fade
DECIMALS = {"start_seconds": 6, "end_seconds": 6}  # of the others 4


@dataclass(frozen=True)
class Shot:
    """One shot, and where the map's attention is in it. Lengths are in widths of the picture.

    The *centroid* is the map's centre of mass on a frame. It *rests* where it stays within 0.05 widths of one place
    (the median over that time) for 0.5 s or more; of a shorter shot, throughout.

    ``arrival_seconds``: how long until the eye arrives: from the shot's start to the start of the first rest; None:
    it never rests. ``settled_x``, ``settled_y``: the place of that rest, fractions of width and height; without a rest
    the median of all. ``rests``: how many different rests follow one another. ``jump``: how far the eye has to go over
    the cut: from the last rest of the shot before to the first one here; None for the first shot.
    ``travel``: the length of the centroid's way through the shot.
    ``centredness``: mean share of attention in the middle half of the width and height; evenly spread, that is 0.25.
    ``entropy_bits``: mean over frames: 0 all in one cell of 54×96, 12.34 evenly spread. ``spread``: mean over frames of
    the root mean square distance of attention from the centroid.
    """

    shot: int
    first_index: int
    last_index: int
    start_seconds: float
    end_seconds: float
    arrival_seconds: float | None
    jump: float | None
    travel: float
    settled_x: float
    settled_y: float
    rests: int
    centredness: float
    entropy_bits: float
    spread: float


@dataclass(eq=False)
class Shots:
    """A video's shots, and per frame what they were worked out from. ``resting``: the position of each rest's first
    frame and of the frame after its last. ``strip``: a picture of each shot for the chart (seconds, RGB)."""

    source: str
    width: int
    height: int
    shots: list[Shot]
    index: list[int]
    seconds: list[float]
    centroids: list[tuple[float, float]]
    entropy: list[float]
    resting: list[tuple[int, int]]
    strip: list[tuple[float, np.ndarray]] = field(default_factory=list, repr=False)


def measure_shots(
    model: Any,
    video: str | Path | Source,
    *,
    on_frame: Callable[[int], None] | None = None,
    **predicting: Any,
) -> Shots:
    """Every shot of ``video``, measured; :class:`Shot` says how.

    A map comes from 16 frames, half of them later, so around a cut it mixes two shots: differences below 0.3 s mean
    little. ``predicting``: settings of :func:`diffsal.predict`. Raises :class:`InputError` for a camera or what cannot
    be read.
    """
    source = video if isinstance(video, Source) else open_source(video)
    if source.camera is not None:
        raise InputError(f"{source.name}: a camera has no end; record it first")
    seen = Seen(source.width, source.height, float(source.sample_aspect_ratio))
    for prediction in predict(model, source, **predicting):
        seen.add(prediction)
        if on_frame:
            on_frame(len(seen.seconds))
    return seen.close(source.name)


class Seen:
    """Takes every prediction in order (:meth:`add`), then gives the shots (:meth:`close`). 60 bytes a frame stay."""

    def __init__(self, width: int, height: int, pixel_aspect: float = 1.0) -> None:
        self.width, self.height = width, height
        self.tall = height / (width * pixel_aspect)  # the picture's height in widths
        self.cuts = CutDetector()
        self.index: list[int] = []
        self.seconds: list[float] = []
        self.measures: list[tuple[float, float, float, float, float]] = []  # x, y, spread, centredness, entropy
        self.strip: list[tuple[float, np.ndarray]] = []
        rows, columns = GRID
        self.xs, self.ys = (np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows

    def add(self, prediction: Any) -> None:
        """``index``, ``seconds``, ``image`` and ``saliency`` of the next frame."""
        self.cuts.add(prediction.image)
        p = on_grid(prediction.saliency)
        across, down = p.sum(0), p.sum(1)
        x, y = float(across @ self.xs), float(down @ self.ys)
        spread = np.sqrt(across @ (self.xs - x) ** 2 + self.tall**2 * (down @ (self.ys - y) ** 2))
        middle = float(_middle_half(self.ys) @ p @ _middle_half(self.xs))
        self.measures.append((x, y, float(spread), middle, entropy_bits(prediction.saliency)))
        self.index.append(prediction.index)
        self.seconds.append(prediction.seconds)
        self._keep_picture(prediction)

    def _keep_picture(self, prediction: Any) -> None:
        """Of each shot the first frame from 0.5 s on that is not black, or its last; cuts are known two frames late."""
        first = self.seconds[self.cuts.cuts[-1]] if self.cuts.cuts else self.seconds[0]
        if len(self.strip) > len(self.cuts.cuts):
            shown = self.strip[-1]
            if shown[0] >= first + SHOWN_SECONDS and shown[1].mean() > BLACK:
                return
        height = max(1, round(STRIP_WIDTH * self.tall))
        small = cv2.resize(prediction.image, (STRIP_WIDTH, height), interpolation=cv2.INTER_AREA)
        self.strip[len(self.cuts.cuts) :] = [(prediction.seconds, small)]

    def close(self, name: str) -> Shots:
        """No frame comes any more."""
        starts = [0, *self.cuts.close()]
        ends = [*starts[1:], len(self.seconds)]
        waits = np.diff(self.seconds)
        last = self.seconds[-1] + (float(np.median(waits)) if len(waits) else 0.0)
        measures, seconds = np.array(self.measures), np.array(self.seconds)
        places = measures[:, :2] * [1, self.tall]
        shots: list[Shot] = []
        resting: list[tuple[int, int]] = []
        before = None  # where the eye rested last
        for number, (first, end) in enumerate(zip(starts, ends, strict=True)):
            found = rests(seconds[first:end], places[first:end])
            where = [np.median(places[first + a : first + b], 0) for a, b in found] or [
                np.median(places[first:end], 0)
            ]
            centredness, entropy, spread = (float(measures[first:end, k].mean()) for k in (3, 4, 2))
            shot = Shot(
                number,
                self.index[first],
                self.index[end - 1],
                self.seconds[first],
                self.seconds[end] if end < len(self.seconds) else last,
                float(seconds[first + found[0][0]] - seconds[first]) if found else None,
                None if before is None else float(np.linalg.norm(where[0] - before)),
                float(np.linalg.norm(np.diff(places[first:end], axis=0), axis=1).sum()),
                float(where[0][0]),
                float(where[0][1] / self.tall),
                len(found),
                centredness,
                entropy,
                spread,
            )
            shots.append(shot)
            resting.extend((first + a, first + b) for a, b in found)
            before = where[-1]
        return Shots(
            name,
            self.width,
            self.height,
            shots,
            self.index,
            self.seconds,
            [(x, y) for x, y, *_ in self.measures],
            [m[4] for m in self.measures],
            resting,
            self.strip[: len(shots)],
        )


def _middle_half(centres: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """How much of each of ``n`` equal cells lies between a quarter and three quarters of the side."""
    half = 0.5 / len(centres)
    inside = np.minimum(centres + half, 0.75) - np.maximum(centres - half, 0.25)
    return np.maximum(inside, 0.0) * len(centres)


def rests(seconds: Float[np.ndarray, " n"], places: Float[np.ndarray, "n 2"]) -> list[tuple[int, int]]:
    """Where ``places`` (in widths) stay within 0.05 of their median for 0.5 s: first position, and the one after it.

    A rest goes on while the next place is within 0.05 of that median; a sequence shorter than 0.5 s may be one rest.
    After Salvucci and Goldberg's dispersion threshold (ETRA 2000).
    """
    found: list[tuple[int, int]] = []
    k, count = 0, len(seconds)
    while k < count:
        end = int(np.searchsorted(seconds, seconds[k] + RESTING_SECONDS + 1e-9, side="right"))
        if end == count and k > 0 and seconds[-1] < seconds[k] + RESTING_SECONDS - 1e-9:
            break
        middle = np.median(places[k:end], 0)
        if np.linalg.norm(places[k:end] - middle, axis=1).max() > RESTING_WIDTHS:
            k += 1
            continue
        while end < count and np.linalg.norm(places[end] - middle) <= RESTING_WIDTHS:
            end += 1
        found.append((k, end))
        k = end
    return found


def write_shots(result: Shots, place: Path) -> None:
    """By its ending: ``.json``, ``.csv`` (a row per shot), or a chart: ``.png``, ``.pdf``, ``.svg``."""
    rows = [_rounded(asdict(shot)) for shot in result.shots]
    if place.suffix.lower() == ".json":
        write_json(place, as_document(result, rows))
    elif place.suffix.lower() == ".csv":
        write_csv(place, tuple(rows[0]), ([("" if v is None else v) for v in row.values()] for row in rows))
    else:
        from diffsal.decisions.shot_chart import write_chart

        write_chart(result, place)


def as_document(result: Shots, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Schema ``diffsal.shots`` version 1, as docs/decisions.md describes it."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "source": Path(result.source).name,
        "width": result.width,
        "height": result.height,
        "resting_widths": RESTING_WIDTHS,
        "resting_seconds": RESTING_SECONDS,
        "shots": rows,
        "frames": [
            {
                "index": i,
                "seconds": round(s, 6),
                "x": round(c[0], 4),
                "y": round(c[1], 4),
                "entropy_bits": round(e, 4),
            }
            for i, s, c, e in zip(result.index, result.seconds, result.centroids, result.entropy, strict=True)
        ],
    }


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, DECIMALS.get(k, 4)) if isinstance(v, float) else v for k, v in row.items()}


def as_table(result: Shots) -> str:
    """The shots as lines for a terminal."""
    lines = ["shot     start       end  arrives   jump  rests  travel  centred  entropy  spread"]
    for s in result.shots:
        arrives = "   never" if s.arrival_seconds is None else f"{s.arrival_seconds:6.2f} s"
        jump = "     –" if s.jump is None else f"{s.jump:6.2f}"
        lines.append(
            f"{s.shot:4d} {s.start_seconds:7.2f} s {s.end_seconds:7.2f} s {arrives} {jump} {s.rests:6d} "
            f"{s.travel:7.2f} {s.centredness:8.0%} {s.entropy_bits:8.2f} {s.spread:7.3f}"
        )
    return "\n".join(lines)
