"""When a region draws most attention: the peaks of its share over time, as moments and as timed text for editors."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from diffsal.decisions.exports import srt

if TYPE_CHECKING:
    from diffsal.decisions.regions import Attended

AVERAGED_SECONDS = 0.5  # over which shares are smoothed: a peak is no single frame
APART_SECONDS = 1.0  # a peak is the highest of so much time before and after it
LEAST_OF_HIGHEST = 0.5  # of the region's highest peak, for another to count
HELD = 0.75  # of its height: a peak lasts while the share is so high
SHORTEST_SECONDS = 1.0  # a caption: time to read it
TOGETHER_SECONDS = 0.5  # between two changes of the captions, at least


@dataclass(frozen=True)
class RegionPeak:
    """A region's share is highest at ``seconds``, and at least three quarters of that from ``start`` to ``end``."""

    name: str
    seconds: float
    share: float
    start: float
    end: float


def region_peaks(result: Attended) -> list[RegionPeak]:
    """The peaks of every region, by time: those that reach the threshold and half of its highest."""
    found = [peak for name in result.shares for peak in _peaks(result, name)]
    return sorted(found, key=lambda peak: (peak.start, -peak.share))


def _peaks(result: Attended, name: str) -> list[RegionPeak]:
    seconds, waits = np.array(result.seconds), result.durations()
    step = max(float(np.median(waits)), 1e-6)
    shares = smoothed(np.nan_to_num(np.array(result.shares[name])), AVERAGED_SECONDS / step)
    around = max(1, round(APART_SECONDS / step))
    least = max(result.threshold, LEAST_OF_HIGHEST * float(shares.max()))
    taken = np.zeros(len(shares), bool)
    found = []
    for k in np.argsort(-shares, kind="stable"):
        low, high = max(0, k - around), k + around + 1
        if shares[k] < least or taken[k] or shares[k] < shares[low:high].max():
            continue
        first = last = int(k)
        while first > 0 and shares[first - 1] >= HELD * shares[k] and not taken[first - 1]:
            first -= 1
        while last + 1 < len(shares) and shares[last + 1] >= HELD * shares[k] and not taken[last + 1]:
            last += 1
        taken[first : last + 1] = True
        end = float(seconds[last] + waits[last])
        found.append(RegionPeak(name, float(seconds[k]), float(shares[k]), float(seconds[first]), end))
    return found


def smoothed(values: np.ndarray, frames: float) -> np.ndarray:
    """The mean over about so many frames around each of ``values`` (n,); at the ends, over those that there are."""
    half = int(frames // 2)
    if half < 1:
        return values
    running = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (running[high] - running[low]) / (high - low)


def peaks_srt(result: Attended) -> str:
    """SubRip text: a caption such as "logo 12%" while a region is at a peak, a line for each that is at one then.

    Captions do not overlap, which some editors refuse; none is shorter than half a second.
    """
    spans = [(p, p.start, max(p.end, p.start + SHORTEST_SECONDS)) for p in region_peaks(result)]
    changes: list[float] = []
    for moment in sorted({t for _, start, end in spans for t in (start, end)}):
        if not changes or moment - changes[-1] > TOGETHER_SECONDS:
            changes.append(moment)
    entries = []
    for start, end in pairwise(changes):
        middle = start + TOGETHER_SECONDS  # what begins or ends so soon after ``start`` does so at ``start``
        shown = [peak for peak, first, last in spans if first <= middle and last > middle]
        words = "\n".join(f"{p.name.replace('-->', '→')} {p.share:.0%}" for p in sorted(shown, key=lambda p: -p.share))
        if words:
            entries.append((start, end, words))
    return srt(entries)
