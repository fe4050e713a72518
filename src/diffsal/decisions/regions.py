"""``diffsal regions``: how much of the attention regions get over time, fixed or moving, beside people's fixations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from diffsal.decisions.cut_detection import CutDetector
from diffsal.decisions.exports import write_coco, write_json
from diffsal.decisions.region_sources import Box, MovingRegion
from diffsal.errors import InputError
from diffsal.files import write_csv, write_text
from diffsal.media.source import Source, open_source
from diffsal.prediction.maps import Prediction
from diffsal.prediction.pipeline import predict

SCHEMA, VERSION = "diffsal.regions", 1
THRESHOLD = 0.05  # share of attention from which a region counts as attended
LEAST_FIXATIONS = 5  # people on a frame, for a share of theirs
STRIP_FRAMES, STRIP_WIDTH = 8, 240


@dataclass(frozen=True)
class Measures:
    """One region over one video; shares are of attention, 0 to 1, absent counts as 0.

    ``first_seconds``: when its share first reaches the threshold; None: never. ``attended_seconds``: how long it is
    there in all. ``longest_gap_seconds``: the longest time below it. ``area``: the mean share of the picture.
    ``lift``: share over area while the region is in the picture, 1 is chance. ``rank``: 1 for the largest mean share.
    """

    name: str
    mean: float
    highest: float
    highest_seconds: float
    first_seconds: float | None
    attended_seconds: float
    longest_gap_seconds: float
    visible_seconds: float
    area: float
    lift: float | None
    rank: int


@dataclass(eq=False)
class Attended:
    """Regions measured on every frame. ``shares``, ``areas``: name → one number per frame, NaN where it is absent.

    ``people``: name → share of people's fixations inside, NaN on frames with fewer than five; empty without fixations.
    """

    source: str
    width: int
    height: int
    threshold: float
    index: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    shares: dict[str, list[float]] = field(default_factory=dict)
    areas: dict[str, list[float]] = field(default_factory=dict)
    boxes: dict[str, list[Box | None]] = field(default_factory=dict)
    people: dict[str, list[float]] = field(default_factory=dict)
    samples: dict[str, list[np.ndarray]] = field(default_factory=dict, repr=False)  # with several: (k,) per frame
    cuts: list[int] = field(default_factory=list)
    strip: list[tuple[float, np.ndarray]] = field(default_factory=list, repr=False)  # seconds, RGB, for the chart

    def durations(self) -> np.ndarray:
        """How long each frame is shown, in seconds; the last as long as the median one."""
        waits = np.diff(self.seconds)
        return np.append(waits, np.median(waits) if len(waits) else 0.0)

    def measures(self, people: bool = False) -> list[Measures]:
        """Of every region, in the order given; with ``people``, of their fixations instead of the maps."""
        table = self.people if people else self.shares
        means = {name: float(np.mean(self._filled(table[name], people))) for name in table}
        order = sorted(means, key=lambda name: -means[name])
        return [self._measured(name, table[name], order.index(name) + 1, people) for name in table]

    def _filled(self, shares: list[float], people: bool) -> np.ndarray:
        values = np.array(shares)
        return values[~np.isnan(values)] if people and (~np.isnan(values)).any() else np.nan_to_num(values)

    def _measured(self, name: str, shares: list[float], rank: int, people: bool) -> Measures:
        values, waits, seconds = np.nan_to_num(np.array(shares)), self.durations(), np.array(self.seconds)
        attended = values >= self.threshold
        visible = ~np.isnan(self.areas[name])
        gap = longest = 0.0
        for wait, is_attended in zip(waits, attended, strict=True):
            gap = 0.0 if is_attended else gap + float(wait)
            longest = max(longest, gap)
        area = float(np.nanmean(self.areas[name])) if visible.any() else 0.0
        inside = float(np.mean(values[visible])) if visible.any() else 0.0
        peak = int(values.argmax())
        return Measures(
            name,
            float(np.mean(self._filled(shares, people))),
            float(values[peak]),
            float(seconds[peak]),
            float(seconds[attended][0]) if attended.any() else None,
            float(waits[attended].sum()),
            longest,
            float(waits[visible].sum()),
            area,
            inside / area if area > 0 else None,
            rank,
        )

    def agreement(self) -> dict[str, tuple[float, float]]:
        """Beside people, per region: mean absolute difference of the shares, and their correlation over frames."""
        found = {}
        for name, people in self.people.items():
            ours, theirs = np.nan_to_num(np.array(self.shares[name])), np.array(people)
            known = ~np.isnan(theirs)
            ours, theirs = ours[known], theirs[known]
            varies = len(ours) > 2 and ours.std() > 0 and theirs.std() > 0
            correlation = float(np.corrcoef(ours, theirs)[0, 1]) if varies else float("nan")
            found[name] = (float(np.abs(ours - theirs).mean()) if len(ours) else float("nan"), correlation)
        return found


def measure_regions(
    model: Any,
    video: str | Path | Source,
    regions: Sequence[MovingRegion],
    *,
    threshold: float = THRESHOLD,
    fixations: Path | None = None,
    on_frame: Callable[[int], None] | None = None,
    **predicting: Any,
) -> Attended:
    """The share of attention in every region on every frame; ``fixations``: a CSV of the gaze layout, to stand beside.

    ``predicting``: settings of :func:`diffsal.predict`. Raises :class:`InputError` for a camera, a threshold that is no
    share, a mask of another size, or what cannot be read.
    """
    source = video if isinstance(video, Source) else open_source(video)
    meter = RegionMeter(source, regions, threshold, fixations)
    for prediction in predict(model, source, **predicting):
        meter.add(prediction)
        if on_frame:
            on_frame(len(meter.result.index))
    return meter.close()


class RegionMeter:
    """Measures regions on a video's predictions as they come (:meth:`add`); :meth:`close` gives what it found.

    Raises :class:`InputError` for a camera, a threshold that is no share, or fixations that cannot be read.
    """

    def __init__(
        self,
        source: Source,
        regions: Sequence[MovingRegion],
        threshold: float = THRESHOLD,
        fixations: Path | None = None,
    ) -> None:
        if source.camera is not None:
            raise InputError(f"{source.name}: a camera has no end; record it first")
        if not 0 < threshold < 1:
            raise InputError(f"threshold is {threshold}, expected a share of attention between 0 and 1")
        self.source, self.regions = source, regions
        self.clip = _fixations(fixations) if fixations else None
        self.result = result = Attended(source.name, source.width, source.height, threshold)
        for table in (result.shares, result.areas, result.boxes, *([result.people] if self.clip else [])):
            table.update({region.name: [] for region in regions})  # type: ignore[attr-defined]
        self._cuts, self._every = CutDetector(), max(1, (source.num_frames or STRIP_FRAMES) // STRIP_FRAMES)

    def add(self, prediction: Prediction) -> None:
        """The next frame. Raises :class:`InputError` for a mask of another size."""
        result = self.result
        self._cuts.add(prediction.image)
        self._measure(prediction)
        if len(result.index) % self._every == self._every // 2 and len(result.strip) < STRIP_FRAMES:
            result.strip.append((prediction.seconds, small_picture(prediction.image)))
        result.index.append(prediction.index)
        result.seconds.append(prediction.seconds)

    def close(self) -> Attended:
        """No frame comes any more."""
        self.result.cuts = self._cuts.close()
        return self.result

    def _measure(self, frame: Prediction) -> None:
        result = self.result
        total = max(float(frame.saliency.sum(dtype=np.float64)), 1e-12)
        points = None if self.clip is None else _points(self.clip, frame)
        for region in self.regions:
            mask = region.mask(frame)
            result.boxes[region.name].append(region.box(frame))
            if mask is None:
                share = area = np.nan
            else:
                share, area = float(frame.saliency[mask].sum(dtype=np.float64)) / total, float(mask.mean())
            result.shares[region.name].append(share)
            result.areas[region.name].append(area)
            if frame.maps is not None:
                result.samples.setdefault(region.name, []).append(sample_shares(frame.maps, mask))
            if points is not None:
                enough = len(points) >= LEAST_FIXATIONS
                inside = float(mask[points[:, 1], points[:, 0]].mean()) if enough and mask is not None else 0.0
                result.people[region.name].append(inside if enough else np.nan)


def sample_shares(maps: Float[np.ndarray, "k h w"], mask: np.ndarray | None) -> Float[np.ndarray, " k"]:
    """The share of attention that each of a frame's samples gives a region; 0 where it is absent."""
    if mask is None:
        return np.zeros(len(maps))
    weights = cv2.resize(mask.astype(np.float32), maps.shape[:0:-1], interpolation=cv2.INTER_AREA)
    inside = np.einsum("khw,hw->k", maps, weights, dtype=np.float64)
    return inside / np.maximum(maps.sum((1, 2), dtype=np.float64), 1e-12)


def small_picture(image: np.ndarray) -> np.ndarray:
    """A picture (h, w, 3) at the width at which a strip of frames shows it."""
    height = max(1, round(STRIP_WIDTH * image.shape[0] / image.shape[1]))
    return cv2.resize(image, (STRIP_WIDTH, height), interpolation=cv2.INTER_AREA)


def _points(clip: Any, frame: Prediction) -> np.ndarray:
    """The pixels, int (n, 2), that people fixate on a frame; those outside the picture are left out."""
    height, width = frame.saliency.shape
    rows = clip.on_frame(frame.seconds)
    inside = ((rows[:, 3:5] >= 0) & (rows[:, 3:5] <= 1)).all(1)
    return np.minimum(rows[inside, 3:5] * [width, height], [width - 1, height - 1]).astype(int)


def _fixations(path: Path) -> Any:
    from diffsal.data.databases.gaze import read_clip

    return read_clip(path, path)


def write_regions(result: Attended, place: Path) -> None:
    """By its ending: ``.json``, ``.coco.json``, ``.csv``, ``.srt`` (peaks), or a chart: ``.png .pdf .svg .html``."""
    if place.name.lower().endswith(".coco.json"):
        boxes = [
            (index, name, (box[0], box[1], box[2] - box[0], box[3] - box[1]), result.shares[name][k])
            for name, found in result.boxes.items()
            for k, (index, box) in enumerate(zip(result.index, found, strict=True))
            if box is not None
        ]
        write_coco(place, result.source, (result.width, result.height), result.index, boxes)
    elif place.suffix.lower() == ".json":
        write_json(place, as_document(result))
    elif place.suffix.lower() == ".csv":
        columns = [*result.shares, *(f"{name}, people" for name in result.people)]
        rows = (
            [
                index,
                f"{result.seconds[k]:.6f}",
                *(_cell(table[k]) for table in result.shares.values()),
                *(_cell(table[k]) for table in result.people.values()),
            ]
            for k, index in enumerate(result.index)
        )
        write_csv(place, ("index", "seconds", *columns), rows)
    elif place.suffix.lower() == ".srt":
        from diffsal.decisions.region_peaks import peaks_srt

        write_text(place, peaks_srt(result))
    else:
        from diffsal.decisions.region_chart import write_chart

        write_chart(result, place)


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.5f}"


def as_document(result: Attended) -> dict[str, Any]:
    """Schema ``diffsal.regions`` version 1, as docs/decisions.md describes it."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "version": VERSION,
        "source": Path(result.source).name,
        "width": result.width,
        "height": result.height,
        "threshold": result.threshold,
        "cuts": [result.index[c] for c in result.cuts],
        "regions": [asdict(m) for m in result.measures()],
    }
    if result.people:
        document["people"] = [asdict(m) for m in result.measures(people=True)]
        document["agreement"] = {
            name: {"mean_absolute_difference": _number(d), "correlation": _number(r)}
            for name, (d, r) in result.agreement().items()
        }
    document["frames"] = [
        {
            "index": index,
            "seconds": round(result.seconds[k], 6),
            "shares": {name: _number(table[k]) for name, table in result.shares.items()},
        }
        for k, index in enumerate(result.index)
    ]
    return document


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 5)
