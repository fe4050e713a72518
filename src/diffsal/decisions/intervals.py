"""95 % intervals of a mean over time: from blocks of frames, or from samples of the noise"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

BLOCK_SECONDS = 2.0  # of a block at least: attention stays where it is for about a second
MOST_OF_ALL = 4  # a block is at most this part of the whole
ALIKE = 0.05  # autocorrelation below which two frames say different things
REPLICATES = 2000
STUDENT_T = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
NORMAL = 1.960

Interval = tuple[float, float]


def student_t(degrees: float) -> float:
    """The 97.5 % quantile of Student's t, to 1 %; ``degrees`` of freedom are rounded down, at least 1."""
    whole = max(1, int(degrees))
    return STUDENT_T[whole - 1] if whole <= len(STUDENT_T) else NORMAL + 2.6 / whole


def block_length(values: Float[np.ndarray, " n"], frame_seconds: float) -> int:
    """How many frames a block has: two seconds, or half as long again as frames stay alike; at most a quarter."""
    n = len(values)
    centred = values - values.mean()
    spectrum = np.fft.rfft(centred, 2 * n)
    correlation = np.fft.irfft(spectrum * spectrum.conj(), 2 * n)[:n]
    different = np.flatnonzero(correlation <= ALIKE * max(correlation[0], 1e-24))
    alike = int(different[0]) if len(different) else n
    wanted = max(round(BLOCK_SECONDS / max(frame_seconds, 1e-6)), math.ceil(1.5 * alike))
    return max(1, min(wanted, n // MOST_OF_ALL))


def block_interval(values: Float[np.ndarray, " n"], frame_seconds: float, seed: int = 0) -> tuple[Interval, int] | None:
    """The interval of the mean of ``values``, one a frame, and the frames in a block; None for fewer than 8 frames.

    The circular block bootstrap (Politis and Romano, 1992), 2,000 replicates drawn by ``seed``; widened as Student's t
    is against the normal, for few blocks.
    """
    n = len(values)
    if n < 2 * MOST_OF_ALL:
        return None
    length = block_length(values, frame_seconds)
    running = np.concatenate([[0.0], np.cumsum(np.concatenate([values, values[: length - 1]]))])
    sums = running[length:] - running[:-length]  # of the block that begins at each frame
    count = math.ceil(n / length)
    starts = np.random.default_rng(seed).integers(0, n, (REPLICATES, count))
    means = sums[starts].sum(1) / (count * length)
    mean, blocks = float(values.mean()), n / length
    widened = math.sqrt(blocks / (blocks - 1)) * student_t(blocks - 1) / NORMAL
    low, high = np.percentile(means, [2.5, 97.5])
    return (mean + (float(low) - mean) * widened, mean + (float(high) - mean) * widened), length


def sample_interval(values: Float[np.ndarray, " k"]) -> Interval | None:
    """The interval of the mean of independent ``values``, by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    half = student_t(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half
