"""``diffsal compare A B --roi …``: two cuts of a video, side by side by the clock, and what attention regions get"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from diffsal.decisions.intervals import Interval, block_interval, sample_interval
from diffsal.decisions.region_sources import Box, BoxRegion, MaskRegion, MovingRegion, Shown, TrackedRegion
from diffsal.decisions.regions import STRIP_FRAMES, Attended, RegionMeter, small_picture
from diffsal.errors import InputError
from diffsal.media.source import Source, open_source
from diffsal.outputs.attention import GRID, moved, on_grid
from diffsal.prediction.maps import Prediction
from diffsal.prediction.pipeline import predict

REST = "elsewhere"  # what lies outside all regions
SAME_MOMENT = 1e-6  # seconds


@dataclass
class Rest:
    """What lies outside all of ``regions``: a region too."""

    regions: Sequence[MovingRegion]
    name: str = REST

    def mask(self, frame: Shown) -> np.ndarray:
        """Which pixels (h, w) no region holds."""
        inside = np.zeros(frame.image.shape[:2], bool)
        for region in self.regions:
            mask = region.mask(frame)
            if mask is not None:
                inside |= mask
        return ~inside

    def box(self, frame: Shown) -> Box | None:
        return None


@dataclass(frozen=True)
class Change:
    """One region in A and in B over the time that both have, as shares of attention (or of people's fixations).

    ``blocks``: the 95 % interval of the difference B - A by which moments are shown; ``samples``: by the noise that
    maps are drawn from, where there are several; None where there is too little for one. ``whole_a``, ``whole_b``: the
    shares over all of each cut, as ``diffsal regions`` gives them.
    """

    name: str
    a: float
    b: float
    blocks: Interval | None
    block_seconds: float | None
    samples: Interval | None
    whole_a: float
    whole_b: float

    @property
    def difference(self) -> float:
        return self.b - self.a

    @property
    def interval(self) -> Interval | None:
        """From samples where there are several, else from blocks of frames."""
        return self.samples or self.blocks

    @property
    def interval_from(self) -> str | None:
        return "samples" if self.samples else "blocks" if self.blocks else None


@dataclass(eq=False)
class CutComparison:
    """Two cuts, each measured whole, and their frames that are on screen at the same time.

    ``pairs``: positions (in A, in B) of the frames shown together, one for each frame of B within the time that both
    have. ``moved``: the share of attention that is elsewhere in B at that moment. ``mean_a``, ``mean_b``: (54, 96), the
    mean distribution of attention over the pairs. ``strip``: seconds and both pictures, for the chart.
    """

    a: Attended
    b: Attended
    seed: int
    num_samples: int
    frame_seconds: tuple[float, float]
    pairs: list[tuple[int, int]] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    mean_a: np.ndarray = field(default_factory=lambda: np.zeros(GRID))
    mean_b: np.ndarray = field(default_factory=lambda: np.zeros(GRID))
    strip: list[tuple[float, np.ndarray, np.ndarray]] = field(default_factory=list, repr=False)

    @property
    def lasts(self) -> tuple[float, float]:
        """How long A and B are, in seconds."""
        a, b = (cut.seconds[-1] + frame for cut, frame in zip((self.a, self.b), self.frame_seconds, strict=True))
        return a, b

    @property
    def common_seconds(self) -> float:
        return min(self.lasts)

    def notes(self) -> list[str]:
        """A line for each way in which the cuts differ that a reader must know."""
        (a, b), found = self.lasts, []
        if abs(a - b) > max(self.frame_seconds) + SAME_MOMENT:
            found.append(
                f"A lasts {a:.2f} s, B {b:.2f} s: the first {min(a, b):.2f} s are compared; "
                "--require is asked of all of B"
            )
        if abs(self.a.width * self.b.height - self.b.width * self.a.height) > self.a.width + self.b.width:
            found.append(
                f"A is {self.a.width}x{self.a.height}, B {self.b.width}x{self.b.height}, of another shape: a region is "
                "the same fractions of each; --roi-b gives B its own"
            )
        return found

    def names(self) -> list[str]:
        """The regions in the order given, then what lies elsewhere."""
        return list(self.a.shares)

    def change(self, name: str) -> Change:
        """One region, by the maps."""
        (a, b), difference = self._both(name), self._difference(self.a.shares[name], self.b.shares[name])
        blocks = block_interval(difference, self.frame_seconds[1], self.seed)
        return Change(
            name,
            a,
            b,
            blocks[0] if blocks else None,
            blocks[1] * self.frame_seconds[1] if blocks else None,
            self._by_samples(name, b - a),
            float(np.nan_to_num(self.a.shares[name]).mean()),
            float(np.nan_to_num(self.b.shares[name]).mean()),
        )

    def changes(self) -> list[Change]:
        return [self.change(name) for name in self.names()]

    def people(self, name: str) -> Change | None:
        """One region by people's fixations, over the pairs on which enough fixate both; None without them."""
        if name not in self.a.people or name not in self.b.people:
            return None
        whole_a, whole_b = np.array(self.a.people[name]), np.array(self.b.people[name])
        a, b = (values[list(at)] for values, at in zip((whole_a, whole_b), zip(*self.pairs, strict=True), strict=True))
        known = ~np.isnan(a) & ~np.isnan(b)
        if not known.any():
            return None
        blocks = block_interval((b - a)[known], self.frame_seconds[1], self.seed)
        return Change(
            name,
            float(a[known].mean()),
            float(b[known].mean()),
            blocks[0] if blocks else None,
            blocks[1] * self.frame_seconds[1] if blocks else None,
            None,
            float(np.nanmean(whole_a)),
            float(np.nanmean(whole_b)),
        )

    def gained(self) -> tuple[float, float, float]:
        """Where B has most of what A has not: x, y as fractions, and the share of attention that has come there."""
        return _summit(self.mean_b - self.mean_a)

    def lost(self) -> tuple[float, float, float]:
        """Where A has most of what B has not: x, y as fractions, and the share that has gone from there."""
        return _summit(self.mean_a - self.mean_b)

    def _both(self, name: str) -> tuple[float, float]:
        at_a, at_b = zip(*self.pairs, strict=True)
        a, b = np.nan_to_num(self.a.shares[name]), np.nan_to_num(self.b.shares[name])
        return float(a[list(at_a)].mean()), float(b[list(at_b)].mean())

    def _difference(self, a: list[float], b: list[float]) -> Float[np.ndarray, " n"]:
        at_a, at_b = zip(*self.pairs, strict=True)
        return np.nan_to_num(b)[list(at_b)] - np.nan_to_num(a)[list(at_a)]

    def _by_samples(self, name: str, difference: float) -> Interval | None:
        """Around ``difference``, that of the mean maps; as wide as the samples' own differences say."""
        if self.num_samples < 2:
            return None
        at_a, at_b = zip(*self.pairs, strict=True)
        a, b = np.stack(self.a.samples[name]), np.stack(self.b.samples[name])
        own = (b[list(at_b)].mean(0) - a[list(at_a)].mean(0)).astype(np.float64)
        found = sample_interval(own)
        shift = difference - float(own.mean())
        return None if found is None else (found[0] + shift, found[1] + shift)


def _summit(difference: Float[np.ndarray, "h w"]) -> tuple[float, float, float]:
    """The centre and the sum of the region around the highest cell in which a difference is at least half as high."""
    row, column = np.unravel_index(int(difference.argmax()), difference.shape)
    highest = float(difference[row, column])
    if highest <= 0:
        return 0.5, 0.5, 0.0
    _, labels = cv2.connectedComponents((difference >= highest / 2).astype(np.uint8))
    inside = labels == labels[row, column]
    rows, columns = np.nonzero(inside)
    weights = difference[inside]
    x = float(np.average(columns + 0.5, weights=weights)) / difference.shape[1]
    y = float(np.average(rows + 0.5, weights=weights)) / difference.shape[0]
    return x, y, float(weights.sum())


def compare_cuts(
    model: Any,
    a: str | Path | Source,
    b: str | Path | Source,
    regions_a: Sequence[MovingRegion],
    regions_b: Sequence[MovingRegion],
    *,
    threshold: float = 0.05,
    samples: int = 1,
    seed: int = 0,
    fixations: tuple[Path, Path] | None = None,
    on_frame: Callable[[int], None] | None = None,
    **predicting: Any,
) -> CutComparison:
    """Predict both cuts at once and measure the regions of each on the frames that are on screen at the same time.

    Aligned by the clock: beside each frame of B stands the frame of A that is shown then; where lengths differ, as long
    as both last. ``regions_a``, ``regions_b``: the same names in the same order, of
    :func:`diffsal.decisions.region_sources.read_regions` for either source. ``samples``: maps drawn of each frame, for
    an interval from them. ``fixations``: a CSV of the gaze layout for each. ``predicting``: settings of
    :func:`diffsal.predict`. Raises :class:`InputError` for a camera, regions that do not fit both, or what cannot be
    read.
    """
    source_a, source_b = (s if isinstance(s, Source) else open_source(s) for s in (a, b))
    _check_regions(regions_a, regions_b)
    meters = [
        RegionMeter(source, [*regions, Rest(regions)], threshold, gaze)
        for source, regions, gaze in zip(
            (source_a, source_b), (regions_a, regions_b), fixations or (None, None), strict=True
        )
    ]
    streams = [predict(model, source, samples=samples, seed=seed, **predicting) for source in (source_a, source_b)]
    frame_seconds = (1 / source_a.frame_rate, 1 / source_b.frame_rate)
    result = CutComparison(meters[0].result, meters[1].result, seed, samples, frame_seconds)
    expected = min((s.num_frames or 0) / s.frame_rate if s.num_frames else STRIP_FRAMES for s in (source_a, source_b))
    with closing(streams[0]), closing(streams[1]):
        for count, (of_a, of_b) in enumerate(_together(meters, streams, frame_seconds[0])):
            if of_a is not None and of_b is not None:
                _add_pair(result, of_a, of_b, expected)
            if on_frame:
                on_frame(count + 1)
    for meter in meters:
        meter.close()
    if not result.pairs:
        raise InputError(f"{source_b.name}: begins after {source_a.name} ends; nothing is on screen at the same time")
    result.mean_a /= len(result.pairs)
    result.mean_b /= len(result.pairs)
    return result


def _together(
    meters: list[RegionMeter], streams: Sequence[Iterator[Prediction]], frame_seconds: float
) -> Iterator[tuple[Prediction | None, Prediction | None]]:
    """Each frame of B with the one of A that is shown then; None for A before it begins and after its end; then, with
    None for B, once for each frame of A that comes later. All are measured on the way."""
    to_a, to_b = meters
    shown: Prediction | None = None
    coming = next(streams[0], None)
    for of_b in streams[1]:
        to_b.add(of_b)
        while coming is not None and coming.seconds <= of_b.seconds + SAME_MOMENT:
            shown = coming
            to_a.add(shown)
            coming = next(streams[0], None)
        over = coming is None and shown is not None and of_b.seconds >= shown.seconds + frame_seconds - SAME_MOMENT
        yield (None if over else shown), of_b
    while coming is not None:
        to_a.add(coming)
        yield coming, None
        coming = next(streams[0], None)


def _add_pair(result: CutComparison, a: Prediction, b: Prediction, expected_seconds: float) -> None:
    of_a, of_b = on_grid(a.saliency), on_grid(b.saliency)
    result.pairs.append((len(result.a.index) - 1, len(result.b.index) - 1))
    result.moved.append(moved(of_a, of_b))
    result.mean_a += of_a
    result.mean_b += of_b
    due = (len(result.strip) + 0.5) * expected_seconds / STRIP_FRAMES
    if len(result.strip) < STRIP_FRAMES and (b.seconds >= due - SAME_MOMENT or expected_seconds <= 0.05):
        result.strip.append((b.seconds, small_picture(a.image), small_picture(b.image)))


def _check_regions(regions_a: Sequence[MovingRegion], regions_b: Sequence[MovingRegion]) -> None:
    names = [region.name for region in regions_a]
    if names != [region.name for region in regions_b]:
        raise InputError(f"A has the regions {', '.join(names)}, B others; both need the same, in the same order")
    if REST in names:
        raise InputError(f"--roi {REST}: this is the name of what lies outside all regions; choose another")


def check_sizes(a: Source, b: Source, regions: Sequence[tuple[MovingRegion, MovingRegion]]) -> None:
    """Raises :class:`InputError` where the pictures have two sizes and a region, read for both, is given in pixels."""
    size_a, size_b = (np.array([s.width, s.height] * 2, float) for s in (a, b))
    if (size_a == size_b).all():
        return
    sizes = f"A is {a.width}x{a.height}, B {b.width}x{b.height}"
    for one, other in regions:
        if isinstance(one, MaskRegion):
            raise InputError(f"--roi {one.name}: {sizes}, and a mask fits one size; give B its own with --roi-b")
        boxes = [
            np.asarray(r.boxes if isinstance(r, BoxRegion) else r.first if isinstance(r, TrackedRegion) else 0) / size
            for r, size in ((one, size_a), (other, size_b))
        ]
        if not np.allclose(boxes[0], boxes[1], atol=1e-9, equal_nan=True):
            raise InputError(
                f"--roi {one.name}: {sizes}; give the region as fractions of the picture, or B its own with --roi-b"
            )
