"""Samples of an eye tracker → fixations, by velocity or by dispersion.

A table of samples (:mod:`diffsal.data.tables`) has the columns ``observer``, ``t_s`` (or ``t_ms``, ``t_us``) on the
clip's own clock, ``x`` and ``y``. A lost sample is empty, a word such as ``nan``, or a number that no eye can give
(:func:`lost_numbers`): those are left out and counted. Both algorithms are the field's usual ones:

- ``velocity``: I-VT (Salvucci and Goldberg, ETRA 2000) with the parameters of Olsen, "The Tobii I-VT fixation filter"
  (2012): velocity over 20 ms, below 30 degrees per second; neighbours at most 75 ms and 0.5 degrees apart are one
  fixation; those below 60 ms are dropped.
- ``dispersion``: I-DT (Salvucci and Goldberg, 2000): the longest runs of at least 100 ms within 1 degree, width plus
  height.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from diffsal.data import tables
from diffsal.data.truth import inside
from diffsal.errors import InputError

VELOCITY_WINDOW_SECONDS = 0.02
LARGEST_VELOCITY = 30.0  # degrees per second
MERGED_SECONDS, MERGED_DEGREES = 0.075, 0.5
SHORTEST_SECONDS = 0.06
LARGEST_COORDINATE = 9_000.0  # in any unit: EyeLink writes 1e8 for a lost sample, PsychoPy -32768, others 9999
LOST_PAIRS = {  # x and y alike: SMI writes 0, Tobii -1; in degrees 0, 0 is the middle of the picture
    "px": (0.0, -1.0, -99.0, -100.0, -999.0, -1000.0), "fraction": (0.0, -1.0, -99.0, -100.0, -999.0, -1000.0),
    "deg": (-99.0, -100.0, -999.0, -1000.0)}
DISPERSION_DEGREES, DISPERSION_SECONDS = 1.0, 0.1


class Fixation(NamedTuple):
    """Start and duration in seconds; where, in the units of the samples."""

    start: float
    duration: float
    x: float
    y: float


@dataclass(frozen=True)
class Recording:
    """What the samples mean.

    ``units``: ``px`` from the upper left corner, ``deg`` from the middle of the picture (to the right and down), or
    ``fraction`` of width and height. ``shown_at``: x, y, width, height of the picture on the screen, in the pixels of
    ``px``; by default the picture's own size at 0, 0. ``pixels_per_degree`` counts the same pixels.
    """

    units: Literal["px", "deg", "fraction"] = "px"
    pixels_per_degree: float | None = None
    shown_at: tuple[float, float, float, float] | None = None
    algorithm: Literal["velocity", "dispersion"] = "velocity"

    def __post_init__(self) -> None:
        for name, choices in (("units", ("px", "deg", "fraction")), ("algorithm", ("velocity", "dispersion"))):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is {getattr(self, name)!r}: expected one of {', '.join(choices)}")
        if self.pixels_per_degree is not None and not 0 < self.pixels_per_degree < np.inf:
            raise InputError(f"pixels per degree is {self.pixels_per_degree}: expected a number above 0")
        if self.shown_at is not None and min(self.shown_at[2:]) <= 0:
            raise InputError(f"shown at {self.shown_at}: expected x, y, width, height with a size above 0")

    def place(self, width: int, height: int) -> tuple[float, float, float, float]:
        """x, y, width and height of a picture of this size on the screen, in pixels."""
        return self.shown_at or (0.0, 0.0, float(width), float(height))


@dataclass(frozen=True)
class Found:
    """``rows``: ``observer, start_s, duration_s, x, y`` (x, y fractions of the picture) of each fixation on it.

    ``outside``: fixations beside it. ``lost``: samples that were written as a number, by that number. ``repeated``:
    samples left out because one before them has the same observer and time.
    """

    rows: list[tuple]
    outside: int
    lost: dict[str, int]
    repeated: int


def fixations(path: Path, recording: Recording, width: int, height: int) -> Found:
    """The fixations in a table of samples; observers are numbered from 1 in the order of their names.

    Raises :class:`InputError` for a table that cannot be read, or without pixels per degree.
    """
    degree = recording.pixels_per_degree
    if degree is None:
        raise InputError(f"{path}: samples need the pixels per degree: the screen's pixels per cm times 0.01745 times "
                         "the viewing distance in cm; give it with --pixels-per-degree")
    left, top, shown_width, shown_height = recording.place(width, height)
    find = by_velocity if recording.algorithm == "velocity" else by_dispersion
    rows: list[tuple] = []
    outside = repeated = 0
    lost: dict[str, int] = {}
    for number, samples in enumerate(_every_sample(path, recording.units).values(), 1):
        first = _first_at_each_time(samples)
        repeated += len(samples) - len(first)
        t, x, y = first.T
        for word, at in lost_numbers(x, y, recording.units).items():
            lost[word] = lost.get(word, 0) + int(at.sum())
            x, y = np.where(at, np.nan, x), np.where(at, np.nan, y)
        if recording.units == "px":
            x, y = (x - left) / degree, (y - top) / degree
        elif recording.units == "deg":
            x, y = x + shown_width / degree / 2, y + shown_height / degree / 2
        else:
            x, y = x * shown_width / degree, y * shown_height / degree
        found = find(t, x, y)
        places = np.array([(f.x * degree / shown_width, f.y * degree / shown_height) for f in found]).reshape(-1, 2)
        kept = inside(places)
        outside += int((~kept).sum())
        rows += [(number, f.start, f.duration, *map(float, place))
                 for f, place, keep in zip(found, places, kept, strict=True) if keep]
    return Found(rows, outside, lost, repeated)


def lost_numbers(x: np.ndarray, y: np.ndarray, units: str) -> dict[str, np.ndarray]:
    """Numbers that stand for lost samples → where they are, bool (n,).

    Beyond ``LARGEST_COORDINATE`` in any unit; x and y both 0 or both −1 (not in degrees), or a pair such as −999.
    """
    found = {f"{value:g}, {value:g}": (x == value) & (y == value) for value in LOST_PAIRS[units]}
    with np.errstate(invalid="ignore"):
        far = (np.abs(x) > LARGEST_COORDINATE) | (np.abs(y) > LARGEST_COORDINATE)
    if far.any():
        at = int(np.argmax(far))
        found[f"{x[at]:g}, {y[at]:g}"] = far
    return {word: at for word, at in found.items() if at.any()}


def by_velocity(t: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[Fixation]:
    """I-VT on samples of one observer: seconds (n,), degrees (n,), NaN where lost."""
    interval = _interval(t)
    half = max(1, round(VELOCITY_WINDOW_SECONDS / 2 / interval)) if interval else 1
    groups = []
    for run in _runs(t, np.isfinite(x) & np.isfinite(y)):
        if len(run) < 2:
            continue
        before, after = np.maximum(run - half, run[0]), np.minimum(run + half, run[-1])
        velocity = np.hypot(x[after] - x[before], y[after] - y[before]) / (t[after] - t[before])
        groups += [run[g] for g in _stretches(velocity < LARGEST_VELOCITY)]
    merged: list[np.ndarray] = []
    for group in groups:
        if merged:
            last = merged[-1]
            apart = np.hypot(x[group].mean() - x[last].mean(), y[group].mean() - y[last].mean())
            if t[group[0]] - t[last[-1]] - interval <= MERGED_SECONDS and apart <= MERGED_DEGREES:
                merged[-1] = np.concatenate([last, group])
                continue
        merged.append(group)
    found = [_fixation(t, x, y, group, interval) for group in merged]
    return [f for f in found if f.duration >= SHORTEST_SECONDS]


def by_dispersion(t: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[Fixation]:
    """I-DT on samples of one observer: seconds (n,), degrees (n,), NaN where lost."""
    interval, found = _interval(t), []
    least = max(2, round(DISPERSION_SECONDS / interval)) if interval else 2
    for run in _runs(t, np.isfinite(x) & np.isfinite(y)):
        if len(run) < least:
            continue
        places = np.stack([x[run], y[run]])
        windows = sliding_window_view(places, least, axis=1)
        starts = np.flatnonzero(np.ptp(windows, axis=2).sum(0) <= DISPERSION_DEGREES)
        end = 0
        for first in starts.tolist():
            if first < end:
                continue
            low, high = windows[:, first].min(1), windows[:, first].max(1)
            lows = np.minimum.accumulate(np.c_[low, places[:, first + least :]], axis=1)
            highs = np.maximum.accumulate(np.c_[high, places[:, first + least :]], axis=1)
            inside = (highs - lows).sum(0) <= DISPERSION_DEGREES
            end = first + least - 1 + int(np.argmin(inside) if not inside.all() else len(inside))
            found.append(_fixation(t, x, y, run[first:end], interval))
    return found


def _interval(t: np.ndarray) -> float:
    return float(np.median(np.diff(t))) if len(t) > 1 else 0.0


def _runs(t: np.ndarray, valid: np.ndarray) -> list[np.ndarray]:
    """Indices of valid samples, cut where the recording pauses for longer than what is merged."""
    pauses = np.flatnonzero(np.diff(t) > MERGED_SECONDS) + 1
    return [part[s] for part in np.split(np.arange(len(t)), pauses) for s in _stretches(valid[part])]


def _stretches(flags: np.ndarray) -> list[np.ndarray]:
    """Indices of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False]))
    return [np.arange(start, stop) for start, stop in edges.reshape(-1, 2)]


def _fixation(t: np.ndarray, x: np.ndarray, y: np.ndarray, group: np.ndarray, interval: float) -> Fixation:
    start = float(t[group[0]])
    return Fixation(start, float(t[group[-1]]) - start + interval, float(x[group].mean()), float(y[group].mean()))


def read_samples(path: Path, units: str = "px") -> dict[str, np.ndarray]:
    """Samples by observer, in the order of their names: float64 (n, 3): seconds, x, y, in the order of time.

    Of several at one time, the first. The names of x and y may end in ``units`` (``x [px]``). NaN where the table says
    that a sample is lost. :class:`InputError` names file, row and cause.
    """
    return {name: _first_at_each_time(samples) for name, samples in _every_sample(path, units).items()}


def _first_at_each_time(samples: np.ndarray) -> np.ndarray:
    return samples[np.unique(samples[:, 0], return_index=True)[1]]


def _every_sample(path: Path, units: str) -> dict[str, np.ndarray]:
    by_observer: dict[str, list[tuple[float, float, float]]] = {}
    columns = [(axis, f"{axis}_{units}") for axis in "xy"]
    for row in tables.read_rows(path, ("observer", tables.in_seconds("t"), *columns)):
        x, y = (tables.place(row, names, path) for names in columns)
        by_observer.setdefault(tables.observer(row, path), []).append((tables.seconds(row, "t", path), x, y))
    if not by_observer:
        raise InputError(f"{path}: holds no sample; export the recording again")
    return {name: np.array(by_observer[name]) for name in sorted(by_observer, key=tables.by_name)}
